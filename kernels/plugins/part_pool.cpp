#include "description.h"

namespace gaitedge {
namespace plugins {
namespace {

constexpr Attribute kAttributes[] = {{"parts", Kind::kInteger, 1, kMaxSize, nullptr}};

class PartPoolDescription final : public Description {
 public:
  const char* name() const noexcept override { return "GaitEdgePartPool"; }
  const Attribute* attributes() const noexcept override { return kAttributes; }
  int attribute_count() const noexcept override { return 1; }

  bool check_shapes(const Values& values, const Tensor* in, int inputs,
                    Problem& problem) const noexcept override {
    if (inputs != 1) return refuse(problem, "it takes x alone, not %d inputs", inputs);
    if (!check_rank(in[0], 4, "x", problem)) return false;
    const int64_t* const size = in[0].shape.size;
    if (below(size[1], 1) || below(size[3], 1)) return refuse(problem, "x has no channels or no columns");
    if (below(size[2], parts(values))) {
      return refuse(problem, "%d rows of x cannot be pooled into %d parts", int(size[2]), parts(values));
    }
    return true;
  }

  OutputShape output_shape(const Values& values, int) const noexcept override {
    return {3, {size_of(0, 0), number(parts(values)), size_of(0, 1)}};
  }

  int32_t type_at(const Values&, int, int, int32_t type) const noexcept override {
    return is_float(type) ? type : kOtherType;
  }

 private:
  static int parts(const Values& values) { return values.of[0].integers[0]; }

  bool format_fits(int position, const Tensor* all, int) const noexcept override {
    return all[position].format == kLinear || (position == 0 && fits_hwc8(all[0]));
  }

  int launch(const Values& values, const Tensor* in, int, const void* const* from, void* to,
             void* stream) const noexcept override {
    const int64_t* const size = in[0].shape.size;
    PartPool a{};
    a.x = from[0];
    a.y = to;
    a.type = in[0].type;
    a.layout = in[0].format == kHwc8 ? kChannelsLast : kChannelsFirst;
    a.count = int32_t(size[0]);
    a.channels = int32_t(size[1]);
    a.height = int32_t(size[2]);
    a.width = int32_t(size[3]);
    a.parts = parts(values);
    return gaitedge_part_pool(&a, stream);
  }
};

}  // namespace

const Description& part_pool() {
  static const PartPoolDescription description;
  return description;
}

}  // namespace plugins
}  // namespace gaitedge
