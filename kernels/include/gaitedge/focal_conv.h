// Focal convolution, FConv (Sec. 3.2), with what follows it: the map is cut into p horizontal strips, each
// is convolved by itself with zeros around it, and
//
//   y[i, o, r, c] = act(bias[o] + Σ w[o, u, v, k] · x[i, k, r + u - d, c + v - d]),  d = (kernel - 1) / 2
//
// summed over channels k and the taps u, v that stay in the strip of row r and in the map; act is the
// LeakyReLU. Then, where asked, the maximum over 2×2 windows of the whole map: one may lie in two strips.
//
// Layout      x and y [N, C, H, W], [N, H, W, C], or in INT8 also [N, C/32, H, W, 32], where zeros fill the
//             last 32 channels; silhouettes (kUint8) are [N, H, W]. Weights [out, kernel, kernel, in].
//             FP32 sums of FP32 and FP16, exact sums of INT8, which then become FP32 by a scale of each
//             output channel and are rounded to INT8 after the pool.
// Tiling      focal_conv_tile.h: 128 pixels (32 windows) of 32 columns at most by 32 or 64 output channels.
//             focal_conv_tensor.h where 32 bytes divide a pixel's channels: an implicit matrix product on
//             tensor cores. focal_conv_direct.h elsewhere, and where shared memory would not do.
// Bytes       A frame of the paper's FConv4, 64 to 64 channels at 32×22 with a pool, FP16: 90 kB in, 23 kB
//             out, 26 M multiplications; weights 74 kB, from L2 for each block. A block of 128 pixels
//             reads 1.3 to 1.9 times its own pixels of x, for its taps, and 64 output channels' weights.
//             FConv1, 1 to 32 channels at 64×44 with a 5×5 kernel: 2.8 kB in, 180 kB out, 2.3 M.
// Variants    Tiles within one strip, padded in shared memory: a strip of 2×11 pixels leaves most of a tile
//             idle. Rectangles of 8×16 pixels: so do maps of 22 and 11 columns. Weights of all taps at
//             once: 37 kB for 64 by 32 channels, one block less a multiprocessor. The maximum over lanes
//             with shuffles, or over rows in shared memory: ordering the rows of the product so that a
//             thread has all of a window costs nothing.
#pragma once

#include "gaitedge/focal_conv_direct.h"
#include "gaitedge/focal_conv_tensor.h"

namespace gaitedge {
namespace focal_conv {

inline int launch_tiles(void (*kernel)(Plan), const Plan& plan, int out, int64_t shared, void* stream) {
  const int64_t positions = int64_t(plan.a.count) * plan.out_height * plan.panel_width;
  const int64_t tiles = (positions + plan.positions - 1) / plan.positions;
  const int64_t others = int64_t(plan.panels) * ceil_div(plan.a.out, out);
  if (tiles > INT32_MAX || others > 65535) return kUnsupported;
  return launch(kernel, dim3(unsigned(tiles), unsigned(others)), kThreads, size_t(shared), stream, plan);
}

template <class T, int Out>
int launch_tensor(const Plan& plan, void* stream) {
  return launch_tiles(tensor<T, Out>, plan, Out, tensor_shared<T, Out>(plan), stream);
}

template <class X, class T>
int launch_direct(Plan plan, void* stream) {
  plan.chunk = direct_chunk(plan);
  return launch_tiles(direct<X, T>, plan, kOut, direct_shared<T>(plan), stream);
}

template <class T>
int launch_typed(const Plan& plan, void* stream) {
  const FocalConv& a = plan.a;
  if (a.x_type == kUint8) return launch_direct<uint8_t, T>(plan, stream);
  if constexpr (!std::is_same_v<T, float>) {
    if (a.in * sizeof(T) % 32 == 0) {
      const bool few = a.out <= 32;
      const int64_t shared = few ? tensor_shared<T, 32>(plan) : tensor_shared<T, 64>(plan);
      if (shared <= kSharedLimit)
        return few ? launch_tensor<T, 32>(plan, stream) : launch_tensor<T, 64>(plan, stream);
    }
  }
  return launch_direct<T, T>(plan, stream);
}

inline bool supported(const FocalConv& a) {
  const bool sizes = a.count >= 0 && a.in >= 1 && a.out >= 1 && a.height >= 1 && a.width >= 1;
  const bool kernel = a.kernel >= 1 && a.kernel <= 7 && a.kernel % 2 == 1 && (a.pool == 0 || a.pool == 1);
  const bool is_int8 = a.type == kInt8 && (a.scale || a.count == 0);
  const bool types = a.type == kFloat32 || a.type == kFloat16 || is_int8;
  const bool layout =
      a.layout == kChannelsFirst || a.layout == kChannelsLast || (a.layout == kChannels32 && is_int8);
  const bool input = a.x_type == a.type || (a.x_type == kUint8 && a.in == 1);
  return sizes && kernel && layout && types && input && a.strips >= 1 && a.strips <= a.height &&
         int64_t(a.count) * a.height <= INT32_MAX - kPixels;  // a block looks so many rows beyond
}

}  // namespace focal_conv

inline int launch_focal_conv(const FocalConv& a, void* stream) {
  if (!focal_conv::supported(a)) return kUnsupported;
  const focal_conv::Plan plan = focal_conv::make_plan(a);
  if (a.count == 0 || plan.out_height == 0 || plan.out_width == 0) return 0;
  if (a.type == kFloat32) return focal_conv::launch_typed<float>(plan, stream);
  if (a.type == kFloat16) return focal_conv::launch_typed<half_t>(plan, stream);
  return focal_conv::launch_typed<int8_t>(plan, stream);
}

}  // namespace gaitedge
