// The temporal head's two convolutions in FP32 arithmetic: for FP32, and for FP16 of sizes that the
// tensor cores do not take.
//
// Layout      x and hidden of a tile in shared memory as FP32, rows padded with zeros to four numbers.
// Tiling      A thread makes one channel of a group of rows (8 of a sequence, 4 of a stream). It reads its
//             channel's weights, four of each tap at a time, once a group; the rows are read by all lanes
//             of a warp at once, so from one address, and each of them serves three taps: 10 loads of 16
//             bytes for 96 multiply-adds and 8 rows.
// Variants    Weights through shared memory: a warp's loads lie rows apart, but each line that they touch
//             stays in the first cache until the loop has used it; a copy would cost a barrier a step.
#pragma once

#include "gaitedge/micro_motion_tile.h"

namespace gaitedge {
namespace micro_motion {

// Four weights from `from`, of which `left` are there; the others are zeros. `whole`: aligned, and all there.
template <class T>
__device__ __forceinline__ float4 load_four(const T* from, int left, bool whole) {
  if (whole) {
    if constexpr (sizeof(T) == 4) {
      return __ldg(reinterpret_cast<const float4*>(from));
    } else {
      const uint2 bits = __ldg(reinterpret_cast<const uint2*>(from));
      const float2 low = unpack_half2(bits.x), high = unpack_half2(bits.y);
      return make_float4(low.x, low.y, high.x, high.y);
    }
  }
  return make_float4(to_float(from[0]), left > 1 ? to_float(from[1]) : 0.f,
                     left > 2 ? to_float(from[2]) : 0.f, left > 3 ? to_float(from[3]) : 0.f);
}

__device__ __forceinline__ float multiply_add(float4 a, float4 b, float sum) {
  sum += a.x * b.x;
  sum += a.y * b.y;
  sum += a.z * b.z;
  sum += a.w * b.w;
  return sum;
}

// sum[i] = one output channel of a convolution of `Taps` taps over rows i, i+1, ... from `rows` on, `depth`
// channels deep. weight [Taps, depth].
template <int Taps, int Rows, class T>
__device__ __forceinline__ void convolve(float (&sum)[Rows], const T* weight, int depth, const float* rows,
                                         int stride) {
  const bool whole = depth % kVector == 0;
#pragma unroll
  for (int i = 0; i < Rows; ++i) sum[i] = 0.f;
  for (int k = 0; k < depth; k += kVector) {
    float4 taps[Taps];
#pragma unroll
    for (int tap = 0; tap < Taps; ++tap) taps[tap] = load_four(weight + tap * depth + k, depth - k, whole);
#pragma unroll
    for (int i = 0; i < Rows + Taps - 1; ++i) {
      const float4 row = *reinterpret_cast<const float4*>(rows + i * stride + k);
#pragma unroll
      for (int tap = 0; tap < Taps; ++tap) {
        if (i - tap >= 0 && i - tap < Rows) sum[i - tap] = multiply_add(row, taps[tap], sum[i - tap]);
      }
    }
  }
}

template <class T>
struct Plain {
  using Stored = T;
  using Element = float;
  static constexpr int kKept = kGroups;  // rows of pooled values that a sequence's sink keeps

  static __host__ __device__ constexpr int x_stride(const MicroMotionWeights& w) {
    return round_up(w.channels, kVector);
  }
  static __host__ __device__ constexpr int hidden_stride(const MicroMotionWeights& w) {
    return count_of(w.templates) * round_up(w.squeezed, kVector);
  }

  // Rows of x: `source(row)` is where the row's channels lie, or null for zeros.
  template <class Source>
  static __device__ __forceinline__ void load(const MicroMotionWeights& w, float* x, int rows,
                                              Source source) {
    const int stride = x_stride(w);
    for (int i = threadIdx.x; i < rows * stride; i += kThreads) {
      const T* from = source(i / stride);
      x[i] = from && i % stride < w.channels ? to_float(from[i % stride]) : 0.f;
    }
  }

  // Conv1d_1 of the MTBs in use and LeakyReLU, side by side in `hidden`. Begins with a barrier.
  template <class Tile>
  static __device__ __forceinline__ void squeeze(const MicroMotionWeights& w, int part, const Tile& tile,
                                                 const Room& room, const float* x, float* hidden) {
    __syncthreads();
    const int middle = w.squeezed, columns = count_of(w.templates) * middle;
    for (int item = threadIdx.x; item < columns * kGroups; item += kThreads) {
      const int column = item % columns, first = item / columns * kGroupStep;
      const int slot = column / middle, channel = column % middle;
      const bool second = slot == 1 || !(w.templates & 1);
      const T* weight = static_cast<const T*>(second ? w.squeeze[1] : w.squeeze[0]) +
                        (int64_t(part) * middle + channel) * 3 * w.channels;
      float sum[Tile::kGroupRows];
      convolve<3>(sum, weight, w.channels, x + first * room.x_stride, room.x_stride);
      const Range in = tile.inside(first);
      float* to = hidden + first * room.hidden_stride + slot * round_up(middle, kVector) + channel;
#pragma unroll
      for (int i = 0; i < Tile::kGroupRows; ++i) {
        const float value = to_float(from_float<T>(leaky_relu(sum[i], w.slope)));
        to[i * room.hidden_stride] = in.has(first + i + 1) ? value : 0.f;
      }
    }
  }

  // Conv1d_2, sigmoid, templates, and the sum of the MTBs: `sink(channel, group, values of its rows)`.
  // Begins with a barrier.
  template <class Tile, class Sink>
  static __device__ __forceinline__ void excite(const MicroMotionWeights& w, int part, const Tile& tile,
                                                const Room& room, const float* x, const float* hidden,
                                                const Sink& sink) {
    constexpr int kRows = Tile::kGroupRows;
    __syncthreads();
    for (int item = threadIdx.x; item < w.channels * kGroups; item += kThreads) {
      const int channel = item % w.channels, group = item / w.channels, first = group * kGroupStep;
      const int64_t row = int64_t(part) * w.channels + channel;
      const float* rows = hidden + first * room.hidden_stride;
      float gate[2][kRows];
#pragma unroll
      for (int i = 0; i < kRows; ++i) gate[0][i] = gate[1][i] = 1.f;
      if (w.attention) {
        if (w.templates & 1) {
          const T* weight = static_cast<const T*>(w.excite[0]) + row * w.squeezed;
          convolve<1>(gate[0], weight, w.squeezed, rows + room.hidden_stride, room.hidden_stride);
          rows += round_up(w.squeezed, kVector);
        }
        if (w.templates & 2) {
          const T* weight = static_cast<const T*>(w.excite[1]) + row * 3 * w.squeezed;
          convolve<3>(gate[1], weight, w.squeezed, rows, room.hidden_stride);
        }
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
          gate[0][i] = sigmoid<T>(gate[0][i]);
          gate[1][i] = sigmoid<T>(gate[1][i]);
        }
      }
      const Range in = tile.inside(first);
      float v[kRows + 4], values[kRows];
#pragma unroll
      for (int i = 0; i < kRows + 4; ++i) v[i] = x[(first + i) * room.x_stride + channel];
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const float2 both = templates(v[i], v[i + 1], v[i + 2], v[i + 3], v[i + 4], first + i, in);
        values[i] = w.templates & 1 ? both.x * gate[0][i] : 0.f;
        if (w.templates & 2) values[i] += both.y * gate[1][i];
      }
      sink(channel, group, values);
    }
  }
};

}  // namespace micro_motion
}  // namespace gaitedge
