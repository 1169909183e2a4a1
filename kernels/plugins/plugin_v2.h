// The plugins as TensorRT 8.6 wants them: IPluginV2DynamicExt. No logic is here.
#pragma once

#include "tensorrt.h"

#pragma GCC diagnostic push
// What 8.6 has for dynamic shapes it calls deprecated in favour of nothing that it has.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace gaitedge {
namespace plugins {

// A namespace that TensorRT may set; cut where it is longer than any that we know.
class Namespace {
 public:
  void set(const char* text) noexcept { std::snprintf(text_, sizeof text_, "%s", text ? text : ""); }
  const char* get() const noexcept { return text_; }

 private:
  char text_[128] = "gaitedge";
};

class PluginV2 final : public nvinfer1::IPluginV2DynamicExt {
 public:
  PluginV2(const State& state, const Namespace& space) noexcept : state_(state), space_(space) {}

  // IPluginV2
  const char* getPluginType() const noexcept override { return state_.description->name(); }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  void setPluginNamespace(const char* text) noexcept override { space_.set(text); }
  const char* getPluginNamespace() const noexcept override { return space_.get(); }
  int32_t getNbOutputs() const noexcept override { return 1; }
  int32_t initialize() noexcept override { return 0; }
  void terminate() noexcept override {}
  void destroy() noexcept override { delete this; }
  size_t getSerializationSize() const noexcept override { return byte_count(state_); }
  void serialize(void* buffer) const noexcept override { write_bytes(state_, buffer); }

  // IPluginV2Ext
  nvinfer1::DataType getOutputDataType(int32_t, const nvinfer1::DataType* in,
                                       int32_t inputs) const noexcept override {
    return output_type(state_, in, inputs);
  }

  // IPluginV2DynamicExt
  nvinfer1::IPluginV2DynamicExt* clone() const noexcept override {
    return new (std::nothrow) PluginV2(state_, space_);
  }
  nvinfer1::DimsExprs getOutputDimensions(int32_t, const nvinfer1::DimsExprs* in, int32_t inputs,
                                          nvinfer1::IExprBuilder& builder) noexcept override {
    nvinfer1::DimsExprs out{};
    if (!output_shape(state_, in, inputs, out, builder)) out.nbDims = -1;
    return out;
  }
  bool supportsFormatCombination(int32_t position, const nvinfer1::PluginTensorDesc* all, int32_t inputs,
                                 int32_t outputs) noexcept override {
    return supports(state_, position, all, inputs, outputs);
  }
  void configurePlugin(const nvinfer1::DynamicPluginTensorDesc* in, int32_t inputs,
                       const nvinfer1::DynamicPluginTensorDesc*, int32_t) noexcept override {
    accepts(state_, in, inputs);
  }
  size_t getWorkspaceSize(const nvinfer1::PluginTensorDesc*, int32_t, const nvinfer1::PluginTensorDesc*,
                          int32_t) const noexcept override {
    return 0;
  }
  int32_t enqueue(const nvinfer1::PluginTensorDesc* in, const nvinfer1::PluginTensorDesc* out,
                  const void* const* from, void* const* to, void*, cudaStream_t stream) noexcept override {
    return plugins::enqueue(state_, in, out, from, to, stream);
  }

 private:
  State state_;
  Namespace space_;
};

class CreatorV2 final : public nvinfer1::IPluginCreator {
 public:
  explicit CreatorV2(const Description& description) noexcept : description_(description) {
    names_.set_names(description);
  }

  const char* getPluginName() const noexcept override { return description_.name(); }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  void setPluginNamespace(const char* text) noexcept override { space_.set(text); }
  const char* getPluginNamespace() const noexcept override { return space_.get(); }
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return names_.get(); }

  nvinfer1::IPluginV2* createPlugin(const char*,
                                    const nvinfer1::PluginFieldCollection* fields) noexcept override {
    State state{&description_, {}, 0};
    return read_state(fields, state) ? new (std::nothrow) PluginV2(state, space_) : nullptr;
  }
  nvinfer1::IPluginV2* deserializePlugin(const char*, const void* bytes, size_t count) noexcept override {
    State state{&description_, {}, 0};
    Problem problem;
    if (read_bytes(state, bytes, count, problem)) return new (std::nothrow) PluginV2(state, space_);
    say(description_, problem);
    return nullptr;
  }

 private:
  const Description& description_;
  Namespace space_;
  Fields names_;
};

using CreatorBase = nvinfer1::IPluginCreator;
using Creator = CreatorV2;

}  // namespace plugins
}  // namespace gaitedge

#pragma GCC diagnostic pop
