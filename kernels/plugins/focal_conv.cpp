#include "description.h"

namespace gaitedge {
namespace plugins {
namespace {

constexpr Attribute kAttributes[] = {
    {"strips", Kind::kInteger, 1, kMaxSize, nullptr},
    {"slope", Kind::kReal, 0, 0, nullptr},
    {"pool", Kind::kInteger, 0, 1, nullptr},
};
constexpr int kMaxKernel = 7;

class FocalConvDescription final : public Description {
 public:
  const char* name() const noexcept override { return "GaitEdgeFocalConv"; }
  const Attribute* attributes() const noexcept override { return kAttributes; }
  int attribute_count() const noexcept override { return 3; }

  bool check_shapes(const Values& values, const Tensor* in, int inputs,
                    Problem& problem) const noexcept override {
    if (inputs != 2 && inputs != 3) {
      return refuse(problem, "it takes x, weight and perhaps bias, not %d inputs", inputs);
    }
    if (!check_rank(in[0], 4, "x", problem) || !check_rank(in[1], 4, "weight", problem)) return false;
    const int64_t *const x = in[0].shape.size, *const weight = in[1].shape.size;
    const int64_t kernel = weight[1] == kUnknown ? weight[2] : weight[1];
    if (!alike(weight[1], weight[2]) || (kernel != kUnknown && (kernel % 2 == 0 || kernel > kMaxKernel))) {
      return refuse(problem, "weight must be [out, k, k, in] with k 1, 3, 5 or 7, not %lld by %lld",
                    static_cast<long long>(weight[1]), static_cast<long long>(weight[2]));
    }
    if (!alike(weight[3], x[1])) {
      return refuse(problem, "weight [out, k, k, in] is for %d channels and x has %d", int(weight[3]),
                    int(x[1]));
    }
    if (below(x[1], 1) || below(x[3], 1) || below(weight[0], 1)) {
      return refuse(problem, "x has no channels or no columns, or weight gives none");
    }
    if (below(x[2], strips(values))) {
      return refuse(problem, "%d rows of x cannot be cut into %d strips", int(x[2]), strips(values));
    }
    if (pool(values) && (below(x[2], 2) || below(x[3], 2))) {
      return refuse(problem, "x of %d by %d is too small for the max-pool", int(x[2]), int(x[3]));
    }
    if (inputs == 3) {
      if (!check_rank(in[2], 1, "bias", problem)) return false;
      if (!alike(in[2].shape.size[0], weight[0])) {
        return refuse(problem, "bias has %d numbers for %d channels", int(in[2].shape.size[0]),
                      int(weight[0]));
      }
    }
    return true;
  }

  OutputShape output_shape(const Values& values, int) const noexcept override {
    const int divisor = pool(values) ? 2 : 1;
    return {4, {size_of(0, 0), size_of(1, 0), size_of(0, 2, divisor), size_of(0, 3, divisor)}};
  }

  int32_t type_at(const Values&, int position, int inputs, int32_t type) const noexcept override {
    if (!is_float(type)) return kOtherType;
    return position == 2 && inputs == 3 ? kFloat32 : type;
  }

 private:
  static int strips(const Values& values) { return values.of[0].integers[0]; }
  static int pool(const Values& values) { return values.of[2].integers[0]; }

  bool format_fits(int position, const Tensor* all, int inputs) const noexcept override {
    const Tensor& own = all[position];
    if (position == inputs) return own.format == all[0].format && (own.format == kLinear || fits_hwc8(own));
    return own.format == kLinear || (position == 0 && fits_hwc8(own));
  }

  int launch(const Values& values, const Tensor* in, int inputs, const void* const* from, void* to,
             void* stream) const noexcept override {
    const int64_t *const x = in[0].shape.size, *const weight = in[1].shape.size;
    FocalConv a{};
    a.x = from[0];
    a.weight = from[1];
    a.bias = inputs == 3 ? static_cast<const float*>(from[2]) : nullptr;
    a.y = to;
    a.slope = values.of[1].real;
    a.type = a.x_type = in[0].type;
    a.layout = in[0].format == kHwc8 ? kChannelsLast : kChannelsFirst;
    a.count = int32_t(x[0]);
    a.in = int32_t(x[1]);
    a.out = int32_t(weight[0]);
    a.height = int32_t(x[2]);
    a.width = int32_t(x[3]);
    a.kernel = int32_t(weight[1]);
    a.strips = strips(values);
    a.pool = pool(values);
    return gaitedge_focal_conv(&a, stream);
  }
};

}  // namespace

const Description& focal_conv() {
  static const FocalConvDescription description;
  return description;
}

}  // namespace plugins
}  // namespace gaitedge
