// TensorRT's words in ours, and ours in TensorRT's; the same text for 8.6, 10 and 11.
//
// Nothing here throws: what may fail says so in a Problem, and `say` gives that to TensorRT's log.
#pragma once

#include <atomic>
#include <cstdio>
#include <new>

#include <NvInferRuntime.h>

#include "attributes.h"

namespace gaitedge {
namespace plugins {

// The log -------------------------------------------------------------------------------------------

inline std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

// One line, as an error, to the logger of whoever called; to stderr where TensorRT gave none.
inline void say(const Description& description, const Problem& problem) noexcept {
  char line[sizeof problem.text + 64];
  std::snprintf(line, sizeof line, "%s: %s", description.name(), problem.text);
  try {
    nvinfer1::ILoggerFinder* const finder = logger_finder.load();
    nvinfer1::ILogger* const logger = finder ? finder->findLogger() : nullptr;
    if (logger) {
      logger->log(nvinfer1::ILogger::Severity::kERROR, line);
      return;
    }
  } catch (...) {  // the user's logger: its exceptions may not pass through TensorRT
  }
  std::fprintf(stderr, "%s\n", line);
}

// Types, formats, tensors -----------------------------------------------------------------------------

inline int32_t from_tensorrt(nvinfer1::DataType type) noexcept {
  if (type == nvinfer1::DataType::kFLOAT) return kFloat32;
  return type == nvinfer1::DataType::kHALF ? int32_t(kFloat16) : kOtherType;
}

inline nvinfer1::DataType to_tensorrt(int32_t type) noexcept {
  return type == kFloat16 ? nvinfer1::DataType::kHALF : nvinfer1::DataType::kFLOAT;
}

inline int32_t from_tensorrt(nvinfer1::TensorFormat format) noexcept {
  if (format == nvinfer1::TensorFormat::kLINEAR) return kLinear;
  return format == nvinfer1::TensorFormat::kHWC8 ? kHwc8 : kOtherFormat;
}

inline Tensor from_tensorrt(const nvinfer1::PluginTensorDesc& d) noexcept {
  Tensor tensor{};
  tensor.shape.rank = d.dims.nbDims;
  for (int axis = 0; axis < d.dims.nbDims && axis < kMaxRank; ++axis) {
    tensor.shape.size[axis] = d.dims.d[axis];
  }
  tensor.type = from_tensorrt(d.type);
  tensor.format = from_tensorrt(d.format);
  return tensor;
}

inline const nvinfer1::PluginTensorDesc& plain(const nvinfer1::PluginTensorDesc& d) noexcept { return d; }
inline const nvinfer1::PluginTensorDesc& plain(const nvinfer1::DynamicPluginTensorDesc& d) noexcept {
  return d.desc;
}

struct Tensors {
  Tensor of[kMaxInputs + 1];
};

// The inputs and the output. More inputs than any plugin has are not looked at: their number is refused.
template <class Desc>
Tensors from_tensorrt(const Desc* descriptions, int count) noexcept {
  Tensors tensors{};
  for (int i = 0; i < count && i <= kMaxInputs; ++i) tensors.of[i] = from_tensorrt(plain(descriptions[i]));
  return tensors;
}

// Attributes ------------------------------------------------------------------------------------------

inline FieldType from_tensorrt(nvinfer1::PluginFieldType type) noexcept {
  switch (type) {
    case nvinfer1::PluginFieldType::kINT32:
      return FieldType::kInt32;
    case nvinfer1::PluginFieldType::kFLOAT32:
      return FieldType::kFloat32;
    case nvinfer1::PluginFieldType::kFLOAT64:
      return FieldType::kFloat64;
    case nvinfer1::PluginFieldType::kCHAR:
      return FieldType::kChar;
#if NV_TENSORRT_MAJOR >= 10
    case nvinfer1::PluginFieldType::kINT64:
      return FieldType::kInt64;
#endif
    default:
      return FieldType::kOther;
  }
}

inline nvinfer1::PluginFieldType to_tensorrt(FieldType type) noexcept {
  return type == FieldType::kInt32     ? nvinfer1::PluginFieldType::kINT32
         : type == FieldType::kFloat32 ? nvinfer1::PluginFieldType::kFLOAT32
                                       : nvinfer1::PluginFieldType::kCHAR;
}

// Reads a creator's fields; false, and a line in the log, where they are not good.
inline bool read_state(const nvinfer1::PluginFieldCollection* collection, State& state) noexcept {
  constexpr int kMaxFields = 32;  // far more than a plugin has attributes
  Problem problem;
  Field fields[kMaxFields];
  const int count = collection ? collection->nbFields : 0;
  bool good = true;
  if (count < 0 || count > kMaxFields || (count > 0 && !collection->fields)) {
    good = refuse(problem, "it cannot have %d fields", count);
  }
  for (int i = 0; good && i < count; ++i) {
    const nvinfer1::PluginField& field = collection->fields[i];
    fields[i] = {field.name, field.data, from_tensorrt(field.type), field.length};
  }
  good = good && read_fields(state, fields, count, problem);
  if (!good) say(*state.description, problem);
  return good;
}

// A collection of fields and the memory that it points to; stays where it is.
class Fields {
 public:
  Fields() = default;
  Fields(const Fields&) = delete;
  Fields& operator=(const Fields&) = delete;

  // What the creator takes: names and types.
  void set_names(const Description& description) noexcept {
    for (int i = 0; i < description.attribute_count(); ++i) {
      const Attribute& attribute = description.attributes()[i];
      const int length = attribute.kind == Kind::kIntegers ? kMaxIntegers : 1;
      fields_[i] = {attribute.name, nullptr, to_tensorrt(field_type(attribute.kind)), length};
    }
    collection_.nbFields = description.attribute_count();
    collection_.fields = fields_;
  }

  // A plugin's attributes; they point into `state`.
  void set_values(const State& state) noexcept {
    Field fields[kMaxAttributes];
    const int count = write_fields(state, fields);
    for (int i = 0; i < count; ++i) {
      fields_[i] = {fields[i].name, fields[i].data, to_tensorrt(fields[i].type), fields[i].length};
    }
    collection_.nbFields = count;
    collection_.fields = fields_;
  }

  const nvinfer1::PluginFieldCollection* get() const noexcept { return &collection_; }

 private:
  nvinfer1::PluginField fields_[kMaxAttributes];
  nvinfer1::PluginFieldCollection collection_;
};

// What the interfaces ask -----------------------------------------------------------------------------

// enqueue is not told how many inputs there are. All that come before it are: they keep the number, and so
// do clones and what is serialised, as a network of fixed shapes may never be configured when it runs.

// The output's shape out of the inputs'. False, and a line in the log, where it cannot be.
inline bool output_shape(State& state, const nvinfer1::DimsExprs* in, int inputs, nvinfer1::DimsExprs& out,
                         nvinfer1::IExprBuilder& builder) noexcept {
  state.inputs = inputs;
  Problem problem;
  Tensors tensors{};
  for (int i = 0; i < inputs && i <= kMaxInputs; ++i) {
    Shape& shape = tensors.of[i].shape;
    shape.rank = in[i].nbDims;
    for (int axis = 0; axis < in[i].nbDims && axis < kMaxRank; ++axis) {
      shape.size[axis] = in[i].d[axis]->isConstant() ? int64_t(in[i].d[axis]->getConstantValue()) : kUnknown;
    }
  }
  if (!state.description->check_shapes(state.values, tensors.of, inputs, problem)) {
    say(*state.description, problem);
    return false;
  }
  using Number = decltype(in[0].d[0]->getConstantValue());  // 32 bits in 8.6, 64 later
  const OutputShape shape = state.description->output_shape(state.values, inputs);
  out.nbDims = shape.rank;
  for (int axis = 0; axis < shape.rank; ++axis) {
    const Size& size = shape.size[axis];
    if (size.input < 0) {
      out.d[axis] = builder.constant(Number(size.number));
    } else {
      out.d[axis] = in[size.input].d[size.axis];
      if (size.number != 1) {
        const nvinfer1::IDimensionExpr* const divisor = builder.constant(Number(size.number));
        out.d[axis] = builder.operation(nvinfer1::DimensionOperation::kFLOOR_DIV, *out.d[axis], *divisor);
      }
    }
  }
  return true;
}

// Whether inputs of these shapes can be taken; a line in the log where not.
template <class Desc>
bool accepts(State& state, const Desc* in, int inputs) noexcept {
  state.inputs = inputs;
  Problem problem;
  const Tensors tensors = from_tensorrt(in, inputs);
  if (state.description->check_shapes(state.values, tensors.of, inputs, problem)) return true;
  say(*state.description, problem);
  return false;
}

template <class Desc>
bool supports(const State& state, int position, const Desc* all, int inputs, int outputs) noexcept {
  if (outputs != 1 || inputs > kMaxInputs) return false;
  const Tensors tensors = from_tensorrt(all, position + 1);  // those after it may not be looked at
  return state.description->supports(state.values, position, tensors.of, inputs);
}

inline nvinfer1::DataType output_type(const State& state, const nvinfer1::DataType* in, int inputs) noexcept {
  return to_tensorrt(state.description->type_at(state.values, inputs, inputs, from_tensorrt(in[0])));
}

inline int enqueue(const State& state, const nvinfer1::PluginTensorDesc* in,
                   const nvinfer1::PluginTensorDesc* out, const void* const* from, void* const* to,
                   cudaStream_t stream) noexcept {
  Problem problem;
  const Tensors tensors = from_tensorrt(in, state.inputs);
  const Tensor result = from_tensorrt(out[0]);
  const Description& description = *state.description;
  const int status =
      description.enqueue(state.values, tensors.of, result, state.inputs, from, to[0], stream, problem);
  if (status != 0) say(description, problem);
  return status;
}

}  // namespace plugins
}  // namespace gaitedge
