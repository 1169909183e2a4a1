#include "description.h"

#include <cstdarg>
#include <cstdio>

namespace gaitedge {
namespace plugins {

bool refuse(Problem& problem, const char* format, ...) noexcept {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(problem.text, sizeof problem.text, format, arguments);
  va_end(arguments);
  return false;
}

const Description& description(int index) {
  switch (index) {
    case 0:
      return part_pool();
    case 1:
      return focal_conv();
    case 2:
      return frame_network();
    default:
      return micro_motion();
  }
}

bool check_rank(const Tensor& tensor, int rank, const char* name, Problem& problem) noexcept {
  if (tensor.shape.rank != rank) {
    return refuse(problem, "%s must have %d axes, not %d", name, rank, int(tensor.shape.rank));
  }
  for (int axis = 0; axis < rank; ++axis) {
    const int64_t size = tensor.shape.size[axis];
    if (size < kUnknown || size > INT32_MAX) {
      return refuse(problem, "axis %d of %s cannot be %lld long", axis, name, static_cast<long long>(size));
    }
  }
  return true;
}

bool Description::check_values(const Values&, Problem&) const noexcept { return true; }

bool Description::format_fits(int position, const Tensor* all, int) const noexcept {
  return all[position].format == kLinear;
}

bool Description::supports(const Values& values, int position, const Tensor* all, int inputs) const noexcept {
  if (position < 0 || position > inputs || inputs > kMaxInputs) return false;
  const Tensor& own = all[position];
  if (own.type == kOtherType || own.type != type_at(values, position, inputs, all[0].type)) return false;
  return format_fits(position, all, inputs);
}

int Description::enqueue(const Values& values, const Tensor* in, const Tensor& out, int inputs,
                         const void* const* from, void* to, void* stream, Problem& problem) const noexcept {
  if (inputs < 1 || inputs > kMaxInputs) {
    refuse(problem, "it cannot take %d inputs", inputs);
    return kUnsupported;
  }
  if (!check_shapes(values, in, inputs, problem)) return kUnsupported;
  Tensor all[kMaxInputs + 1];
  for (int i = 0; i < inputs; ++i) all[i] = in[i];
  all[inputs] = out;
  for (int i = 0; i <= inputs; ++i) {
    for (int axis = 0; axis < all[i].shape.rank; ++axis) {
      if (all[i].shape.size[axis] < 0) {
        refuse(problem, "axis %d of tensor %d has no size yet", axis, i);
        return kUnsupported;
      }
    }
    if (!supports(values, i, all, inputs)) {
      refuse(problem, "tensor %d has a type or format that was not agreed", i);
      return kUnsupported;
    }
  }
  const OutputShape shape = output_shape(values, inputs);
  bool same = shape.rank == out.shape.rank;
  for (int axis = 0; same && axis < shape.rank; ++axis) {
    const Size& size = shape.size[axis];
    const int64_t expected =
        size.input < 0 ? size.number : in[size.input].shape.size[size.axis] / size.number;
    same = out.shape.size[axis] == expected;
  }
  if (!same) {
    refuse(problem, "the output is not of the shape that follows from the inputs");
    return kUnsupported;
  }
  const int status = launch(values, in, inputs, from, to, stream);
  if (status != 0) refuse(problem, "the launch failed: %s", gaitedge_error(status));
  return status;
}

}  // namespace plugins
}  // namespace gaitedge
