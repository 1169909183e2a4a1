#include "description.h"

namespace gaitedge {
namespace plugins {
namespace {

constexpr Attribute kAttributes[] = {{"slope", Kind::kReal, 0, 0, nullptr}};
constexpr int kHeight = 64, kWidth = 44, kParts = 16, kChannels = 128;  // of the paper's network for CASIA-B
constexpr int kWeights = 287616;  // halves: frame_network::packed_bytes(2) / 2 of frame_network_weights.h

class FrameNetworkDescription final : public Description {
 public:
  const char* name() const noexcept override { return "GaitEdgeFrameNetwork"; }
  const Attribute* attributes() const noexcept override { return kAttributes; }
  int attribute_count() const noexcept override { return 1; }

  bool check_shapes(const Values&, const Tensor* in, int inputs, Problem& problem) const noexcept override {
    if (inputs != 2) return refuse(problem, "it takes silhouettes and weights, not %d inputs", inputs);
    if (!check_rank(in[0], 4, "silhouettes", problem)) return false;
    if (!check_rank(in[1], 1, "weights", problem)) return false;
    const int64_t* const size = in[0].shape.size;
    if (!alike(size[2], kHeight) || !alike(size[3], kWidth)) {
      return refuse(problem, "silhouettes must be %d by %d, not %d by %d", kHeight, kWidth, int(size[2]),
                    int(size[3]));
    }
    if (size[0] != kUnknown && size[1] != kUnknown && size[0] * size[1] > INT32_MAX) {
      return refuse(problem, "these are too many silhouettes");
    }
    if (!alike(in[1].shape.size[0], kWeights)) {
      return refuse(problem, "weights must be the %d halves of the packed network, not %d", kWeights,
                    int(in[1].shape.size[0]));
    }
    return true;
  }

  OutputShape output_shape(const Values&, int) const noexcept override {
    return {4, {size_of(0, 0), size_of(0, 1), number(kParts), number(kChannels)}};
  }

  int32_t type_at(const Values&, int, int, int32_t) const noexcept override { return kFloat16; }

 private:
  int launch(const Values& values, const Tensor* in, int, const void* const* from, void* to,
             void* stream) const noexcept override {
    FrameNetwork a{};
    a.silhouettes = from[0];
    a.weights = from[1];
    a.features = to;
    a.pixels = a.type = kFloat16;
    a.frames = int32_t(in[0].shape.size[0] * in[0].shape.size[1]);
    a.slope = values.of[0].real;
    return gaitedge_frame_network(&a, stream);
  }
};

}  // namespace

const Description& frame_network() {
  static const FrameNetworkDescription description;
  return description;
}

}  // namespace plugins
}  // namespace gaitedge
