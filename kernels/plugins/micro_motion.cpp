#include "description.h"

namespace gaitedge {
namespace plugins {
namespace {

constexpr const char* kPoolings[] = {"max", "mean", nullptr};  // in the order of gaitedge::Pooling
constexpr Attribute kAttributes[] = {
    {"templates", Kind::kIntegers, 1, 2, nullptr},  {"attention", Kind::kInteger, 0, 1, nullptr},
    {"pooling", Kind::kWord, 0, 0, kPoolings},      {"slope", Kind::kReal, 0, 0, nullptr},
    {"fc", Kind::kInteger, 0, 1, nullptr},
};

class MicroMotionDescription final : public Description {
 public:
  const char* name() const noexcept override { return "GaitEdgeMicroMotion"; }
  const Attribute* attributes() const noexcept override { return kAttributes; }
  int attribute_count() const noexcept override { return 5; }

  bool check_values(const Values& values, Problem& problem) const noexcept override {
    const Value& templates = values.of[0];
    if (templates.count == 2 && templates.integers[0] >= templates.integers[1]) {
      return refuse(problem, "templates must be 1, 2 or both, each once, in this order");
    }
    return true;
  }

  bool check_shapes(const Values& values, const Tensor* in, int inputs,
                    Problem& problem) const noexcept override {
    const int expected = 1 + 2 * attended(values) + fc(values);
    if (inputs != expected) {
      return refuse(problem, "with these attributes it takes %d inputs, not %d", expected, inputs);
    }
    if (!check_rank(in[0], 4, "x", problem)) return false;
    const int64_t* const x = in[0].shape.size;
    if (below(x[1], 1) || below(x[2], 1) || below(x[3], 1)) {
      return refuse(problem, "x has no frames, no parts or no channels");
    }
    int64_t middle = kUnknown;
    for (int i = 0; i < attended(values); ++i) {
      const int window = 2 * values.of[0].integers[i] - 1;  // of the excitation: 1 or 3
      const Tensor &squeeze = in[1 + 2 * i], &excite = in[2 + 2 * i];
      if (!check_rank(squeeze, 4, "squeeze", problem)) return false;
      if (!check_rank(excite, 4, "excite", problem)) return false;
      const int64_t *const s = squeeze.shape.size, *const e = excite.shape.size;
      const bool squeezes = alike(s[0], x[2]) && alike(s[2], 3) && alike(s[3], x[3]) && !below(s[1], 1);
      const bool excites = alike(e[0], x[2]) && alike(e[1], x[3]) && alike(e[2], window) && alike(e[3], s[1]);
      if (!squeezes || !excites || !alike(s[1], middle)) {
        return refuse(problem, "input %d must be [parts, S, 3, C] and input %d [parts, C, %d, S] for this x",
                      1 + 2 * i, 2 + 2 * i, window);
      }
      middle = s[1];
    }
    if (fc(values)) {
      if (!check_rank(in[inputs - 1], 3, "fc", problem)) return false;
      const int64_t* const size = in[inputs - 1].shape.size;
      if (!alike(size[0], x[2]) || !alike(size[1], x[3]) || below(size[2], 1)) {
        return refuse(problem, "fc must be [parts, C, dim] for this x");
      }
    }
    return true;
  }

  OutputShape output_shape(const Values& values, int inputs) const noexcept override {
    return {3, {size_of(0, 0), size_of(0, 2), fc(values) ? size_of(inputs - 1, 2) : size_of(0, 3)}};
  }

  int32_t type_at(const Values& values, int position, int inputs, int32_t type) const noexcept override {
    if (!is_float(type)) return kOtherType;
    return position == inputs && fc(values) ? int32_t(kFloat32) : type;
  }

 private:
  static int fc(const Values& values) { return values.of[4].integers[0]; }
  // Templates that have weights.
  static int attended(const Values& values) { return values.of[1].integers[0] ? values.of[0].count : 0; }

  int launch(const Values& values, const Tensor* in, int inputs, const void* const* from, void* to,
             void* stream) const noexcept override {
    const int64_t* const x = in[0].shape.size;
    MicroMotion a{};
    for (int i = 0; i < values.of[0].count; ++i) {
      const int index = values.of[0].integers[i] - 1;
      a.weights.templates |= 1 << index;
      if (!attended(values)) continue;
      a.weights.squeeze[index] = from[1 + 2 * i];
      a.weights.excite[index] = from[2 + 2 * i];
      a.weights.squeezed = int32_t(in[1].shape.size[1]);
    }
    a.weights.type = in[0].type;
    a.weights.parts = int32_t(x[2]);
    a.weights.channels = int32_t(x[3]);
    a.weights.attention = values.of[1].integers[0];
    a.weights.pooling = values.of[2].integers[0];
    a.weights.slope = values.of[3].real;
    if (fc(values)) {
      a.weights.fc = from[inputs - 1];
      a.weights.dim = int32_t(in[inputs - 1].shape.size[2]);
    }
    a.features = from[0];
    a.y = to;
    a.y_type = fc(values) ? int32_t(kFloat32) : in[0].type;
    a.batch = int32_t(x[0]);
    a.frames = int32_t(x[1]);
    return gaitedge_micro_motion(&a, stream);
  }
};

}  // namespace

const Description& micro_motion() {
  static const MicroMotionDescription description;
  return description;
}

}  // namespace plugins
}  // namespace gaitedge
