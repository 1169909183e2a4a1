// The frame network's weights, packed: what FrameNetwork.weights points to. gaitedge/export/packing.py
// writes it.
//
// One run of bytes. First the weights of FConv1 to FConv6, FP16 or INT8, then float32 numbers:
//
//   bias      [448]  of FConv1 to FConv6, one after the other: 32, 32, 64, 64, 128, 128
//   scale     [448]  INT8 alone: what a step of the sum is worth, input scale × the channel's weight scale
//   inverse   [8]    INT8 alone: 1 / input scale of FConv2 to FConv6, then three zeros
//
// A layer's weights are a matrix [out, depth]: depth is (tap, input channel), the taps row by row, so 9·in;
// for FConv1 it is 32: five rows of six taps, the sixth zero, and two zeros more. A k step is 32 bytes of a
// row, 16 FP16 or 32 INT8 numbers; a word is 4 of them, 2 or 4 numbers. The matrix lies as
//
//   [out/16, k step, 8 columns g, 4 words t, 2 tiles of 8 columns, 2 halves of the k step, numbers of a word]
//
// which is [out/16, 2, 8, k step, 2, 4, word] of the matrix, transposed: lane 4g + t of a warp reads its B
// fragments (tensor_core.h) of one k step and 16 output channels as 16 bytes, and the warp as 512 in a row.
// Nothing is scaled: not FConv1 by 1/255 either, which would make FP16 numbers below the smallest normal one.
// INT8 weights are round(w / weight scale), with max|w| / 127 of each output channel as its scale.
#pragma once

#include "gaitedge/platform.h"

namespace gaitedge {
namespace frame_network {

constexpr int kLayers = 6;

// Of FConv `layer`, from 1.
__host__ __device__ constexpr int inputs(int layer) { return layer == 1 ? 1 : 32 << (layer - 2) / 2; }
__host__ __device__ constexpr int outputs(int layer) { return 32 << (layer - 1) / 2; }
__host__ __device__ constexpr int depth(int layer) { return layer == 1 ? 32 : 9 * inputs(layer); }

// Output channels of the FConvs before this one.
__host__ __device__ constexpr int channels_before(int layer) {
  return layer == 1 ? 0 : channels_before(layer - 1) + outputs(layer - 1);
}
constexpr int kChannels = channels_before(kLayers + 1);

// Where things begin, in bytes; `size` is that of a weight, 2 or 1.
__host__ __device__ constexpr int weights_at(int layer, int size) {
  return layer == 1 ? 0 : weights_at(layer - 1, size) + outputs(layer - 1) * depth(layer - 1) * size;
}
__host__ __device__ constexpr int bias_at(int layer, int size) {
  return weights_at(kLayers + 1, size) + 4 * channels_before(layer);
}
__host__ __device__ constexpr int scale_at(int layer) { return bias_at(layer, 1) + 4 * kChannels; }
__host__ __device__ constexpr int inverse_at(int layer) {  // of FConv `layer`'s input, from 2
  return scale_at(kLayers + 1) + 4 * (layer - 2);
}
__host__ __device__ constexpr int packed_bytes(int size) {
  return size == 1 ? inverse_at(2) + 4 * 8 : bias_at(kLayers + 1, size);
}

}  // namespace frame_network
}  // namespace gaitedge
