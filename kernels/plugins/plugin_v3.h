// The plugins as TensorRT 10 and 11 want them: IPluginV3 with its three capabilities. No logic is here.
#pragma once

#include "tensorrt.h"

namespace gaitedge {
namespace plugins {

class PluginV3 final : public nvinfer1::IPluginV3,
                       public nvinfer1::IPluginV3OneCore,
                       public nvinfer1::IPluginV3OneBuild,
                       public nvinfer1::IPluginV3OneRuntime {
 public:
  explicit PluginV3(const State& state) noexcept : state_(state) {}

  // IPluginV3
  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override {
    switch (type) {
      case nvinfer1::PluginCapabilityType::kCORE:
        return static_cast<nvinfer1::IPluginV3OneCore*>(this);
      case nvinfer1::PluginCapabilityType::kBUILD:
        return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
      case nvinfer1::PluginCapabilityType::kRUNTIME:
        return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
      default:
        return nullptr;
    }
  }
  nvinfer1::IPluginV3* clone() noexcept override { return new (std::nothrow) PluginV3(state_); }

  // IPluginV3OneCore
  const char* getPluginName() const noexcept override { return state_.description->name(); }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const char* getPluginNamespace() const noexcept override { return kNamespace; }

  // IPluginV3OneBuild
  int32_t getNbOutputs() const noexcept override { return 1; }
  int32_t getOutputDataTypes(nvinfer1::DataType* out, int32_t outputs, const nvinfer1::DataType* in,
                             int32_t inputs) const noexcept override {
    if (outputs != 1 || inputs < 1) return -1;
    out[0] = output_type(state_, in, inputs);
    return 0;
  }
  int32_t getOutputShapes(const nvinfer1::DimsExprs* in, int32_t inputs, const nvinfer1::DimsExprs*, int32_t,
                          nvinfer1::DimsExprs* out, int32_t outputs,
                          nvinfer1::IExprBuilder& builder) noexcept override {
    return outputs == 1 && output_shape(state_, in, inputs, out[0], builder) ? 0 : -1;
  }
  bool supportsFormatCombination(int32_t position, const nvinfer1::DynamicPluginTensorDesc* all,
                                 int32_t inputs, int32_t outputs) noexcept override {
    return supports(state_, position, all, inputs, outputs);
  }
  int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc* in, int32_t inputs,
                          const nvinfer1::DynamicPluginTensorDesc*, int32_t) noexcept override {
    return accepts(state_, in, inputs) ? 0 : -1;
  }

  // IPluginV3OneRuntime
  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override {
    return clone();
  }
  const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override {
    fields_.set_values(state_);
    return fields_.get();
  }
  int32_t onShapeChange(const nvinfer1::PluginTensorDesc* in, int32_t inputs,
                        const nvinfer1::PluginTensorDesc*, int32_t) noexcept override {
    return accepts(state_, in, inputs) ? 0 : -1;
  }
  int32_t enqueue(const nvinfer1::PluginTensorDesc* in, const nvinfer1::PluginTensorDesc* out,
                  const void* const* from, void* const* to, void*, cudaStream_t stream) noexcept override {
    return plugins::enqueue(state_, in, out, from, to, stream);
  }

 private:
  State state_;
  Fields fields_;
};

class CreatorV3 final : public nvinfer1::IPluginCreatorV3One {
 public:
  explicit CreatorV3(const Description& description) noexcept : description_(description) {
    names_.set_names(description);
  }

  const char* getPluginName() const noexcept override { return description_.name(); }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const char* getPluginNamespace() const noexcept override { return kNamespace; }
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return names_.get(); }

  nvinfer1::IPluginV3* createPlugin(const char*, const nvinfer1::PluginFieldCollection* fields,
                                    nvinfer1::TensorRTPhase) noexcept override {
    State state{&description_, {}, 0};
    return read_state(fields, state) ? new (std::nothrow) PluginV3(state) : nullptr;
  }

 private:
  const Description& description_;
  Fields names_;
};

using CreatorBase = nvinfer1::IPluginCreatorInterface;
using Creator = CreatorV3;

}  // namespace plugins
}  // namespace gaitedge
