// TensorRT's part in the driving of plugins: its expressions, its logger, its words for tensors and fields.
#pragma once

#include <cstdint>
#include <deque>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <NvInferRuntime.h>

#include "driver.h"

using namespace nvinfer1;

namespace {  // of the one source that includes this

// Expressions ---------------------------------------------------------------------------------------

using Number = decltype(std::declval<const IDimensionExpr&>().getConstantValue());

// A size: known, or not before the network runs, when it is `value`.
class Expression final : public IDimensionExpr, private apiv::VDimensionExpr {
 public:
  Expression(int64_t value_, bool known_) : value(value_), known(known_) { mImpl = this; }
  ~Expression() noexcept override = default;

  const int64_t value;
  const bool known;

 private:
  bool isConstant() const override { return known; }
  Number getConstantValue() const override { return Number(known ? value : INT32_MIN); }
#if NV_TENSORRT_MAJOR >= 10
  bool isSizeTensor() const override { return false; }
#endif
};

class Expressions final : public IExprBuilder, private apiv::VExprBuilder {
 public:
  Expressions() { mImpl = this; }
  ~Expressions() noexcept override = default;

  const IDimensionExpr* make(int64_t value, bool known) { return &made_.emplace_back(value, known); }

 private:
  const IDimensionExpr* constant(Number value) override { return make(value, true); }
  const IDimensionExpr* operation(DimensionOperation op, const IDimensionExpr& first,
                                  const IDimensionExpr& second) override {
    if (op != DimensionOperation::kFLOOR_DIV) return nullptr;
    const auto &a = static_cast<const Expression&>(first), &b = static_cast<const Expression&>(second);
    return make(a.value / b.value, a.known && b.known);
  }
#if NV_TENSORRT_MAJOR >= 10
  const IDimensionExpr* declareSizeTensor(int32_t, const IDimensionExpr&, const IDimensionExpr&) override {
    return nullptr;
  }
#endif

  std::deque<Expression> made_;
};

// The log -------------------------------------------------------------------------------------------

bool logger_throws = false;

class Logger final : public ILogger {
 public:
  void log(Severity severity, const char* line) noexcept override {
    log_lines() += (severity == Severity::kERROR ? "" : "not an error: ") + std::string(line) + "\n";
  }
};

class Finder final : public ILoggerFinder {
 public:
  ILogger* findLogger() override {
    if (logger_throws) throw std::runtime_error("no logger today");
    return &logger_;
  }

 private:
  Logger logger_;
};

// Words ---------------------------------------------------------------------------------------------

constexpr DataType kTypes[] = {DataType::kFLOAT, DataType::kHALF, DataType::kINT8};
constexpr TensorFormat kFormats[] = {TensorFormat::kLINEAR, TensorFormat::kHWC8, TensorFormat::kCHW32};

int32_t type_number(DataType type) { return type == DataType::kFLOAT ? 0 : type == DataType::kHALF ? 1 : 2; }

PluginTensorDesc describe(const DriverTensor& t, bool running) {
  PluginTensorDesc d{};
  d.dims.nbDims = t.rank;
  for (int axis = 0; axis < t.rank; ++axis) {
    d.dims.d[axis] = running || (t.known >> axis & 1) ? Number(t.size[axis]) : Number(-1);
  }
  d.type = kTypes[t.type];
  d.format = kFormats[t.format];
  d.scale = 1.f;
  return d;
}

DynamicPluginTensorDesc range(const DriverTensor& t) {
  DynamicPluginTensorDesc d{};
  d.desc = describe(t, false);
  d.min = d.max = describe(t, true).dims;
#if NV_TENSORRT_MAJOR >= 10
  d.opt = d.max;
#endif
  return d;
}

std::vector<PluginTensorDesc> describe_all(const DriverTensor* tensors, int count, bool running) {
  std::vector<PluginTensorDesc> all;
  for (int i = 0; i < count; ++i) all.push_back(describe(tensors[i], running));
  return all;
}

std::vector<DynamicPluginTensorDesc> range_all(const DriverTensor* tensors, int count) {
  std::vector<DynamicPluginTensorDesc> all;
  for (int i = 0; i < count; ++i) all.push_back(range(tensors[i]));
  return all;
}

std::vector<DimsExprs> express(const DriverTensor* tensors, int count, Expressions& expressions) {
  std::vector<DimsExprs> all(count);
  for (int i = 0; i < count; ++i) {
    all[i].nbDims = tensors[i].rank;
    for (int axis = 0; axis < tensors[i].rank; ++axis) {
      all[i].d[axis] = expressions.make(tensors[i].size[axis], tensors[i].known >> axis & 1);
    }
  }
  return all;
}

DriverTensor evaluate(const DimsExprs& shape, DataType type) {
  DriverTensor out{};
  out.rank = shape.nbDims;
  for (int axis = 0; axis < shape.nbDims; ++axis) {
    const auto& expression = *static_cast<const Expression*>(shape.d[axis]);
    out.size[axis] = expression.value;
    out.known |= int64_t(expression.known) << axis;
  }
  out.type = type_number(type);
  return out;
}

PluginFieldType field_type(int32_t type) {
  switch (type) {
    case 0:
      return PluginFieldType::kINT32;
#if NV_TENSORRT_MAJOR >= 10
    case 1:
      return PluginFieldType::kINT64;
#endif
    case 2:
      return PluginFieldType::kFLOAT32;
    case 3:
      return PluginFieldType::kFLOAT64;
    case 4:
      return PluginFieldType::kCHAR;
    default:
      return PluginFieldType::kDIMS;
  }
}

int32_t field_number(PluginFieldType type) {
  for (int32_t number = 0; number < 5; ++number) {
    if (field_type(number) == type) return number;
  }
  return 5;
}

}  // namespace
