// FConv without tensor cores: FP32, and any number of input channels in FP16 and INT8.
//
// A block computes kPixels pixels and kOut output channels, a thread 4 pixels and 8 channels. Lanes of a
// warp are neighbouring pixels, a warp has its own 8 channels: it reads a weight once for all lanes.
// Channels of x are staged as planes of 4-byte numbers, some at a time, with the weights of all taps.
#pragma once

#include "gaitedge/focal_conv_tile.h"

namespace gaitedge {
namespace focal_conv {

constexpr int kOut = 32;                  // output channels of a block
constexpr int kOfThread = 8;              // of a thread
constexpr int kWeightRow = 40;            // words from the weights of one input channel to the next's
constexpr int kDirectShared = 40 * 1024;  // bytes that a block aims at

// Words from one channel's plane to the next: odd, and room for a zero after the records.
__host__ __device__ inline int plane_of(const Plan& plan) { return (plan.records + 1) | 1; }

inline int words_a_channel(const Plan& plan) {
  return plane_of(plan) + plan.a.kernel * plan.a.kernel * kWeightRow;
}

// How many channels at a time.
inline int direct_chunk(const Plan& plan) {
  const int fit = kDirectShared / 4 / words_a_channel(plan);
  return fit < 1 ? 1 : fit < plan.a.in ? fit : plan.a.in;
}

template <class T>
inline int64_t direct_shared(const Plan& plan) {
  const int64_t staged = int64_t(plan.chunk) * words_a_channel(plan) * 4;
  const int64_t results = int64_t(kPixels) * (kOut * sizeof(T) + 16);
  return staged > results ? staged : results;
}

// `channels` planes from `channel` on. Lanes follow the order in memory: pixels, or channels.
template <class X, class Number>
__device__ __forceinline__ void stage_planes(const Plan& plan, const Tile& tile, Number* planes, int channel,
                                             int channels) {
  const FocalConv& a = plan.a;
  const int layout = std::is_same_v<X, uint8_t> ? int(kChannelsLast) : a.layout, plane = plane_of(plan);
  const X* x = static_cast<const X*>(a.x);
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
  if (layout == kChannelsFirst || channels == 1) {
    for (int i = warp; i < tile.x_rows * channels; i += kThreads / kWarp) {
      const int row = i / channels, c = i % channels;
      for (int column = lane; column < tile.x_columns; column += kWarp) {
        const int64_t at =
            element(layout, a.in, a.height, a.width, tile.x_row + row, tile.x_column + column, channel + c);
        planes[c * plane + row * tile.x_columns + tile.place(plan, column)] =
            static_cast<Number>(to_float(x[at]));
      }
    }
  } else {
    for (int row = warp; row < tile.x_rows; row += kThreads / kWarp) {
      for (int i = lane; i < tile.x_columns * channels; i += kWarp) {
        const int column = i / channels, c = i % channels;
        const int64_t at =
            element(layout, a.in, a.height, a.width, tile.x_row + row, tile.x_column + column, channel + c);
        planes[c * plane + row * tile.x_columns + tile.place(plan, column)] =
            static_cast<Number>(to_float(x[at]));
      }
    }
  }
}

// [tap][input channel][output channel]: a warp reads four input channels of eight output channels and
// writes them to 32 banks.
template <class T, class Number>
__device__ __forceinline__ void stage_rows(const FocalConv& a, Number* rows, int out, int channel,
                                           int channels) {
  const int taps = a.kernel * a.kernel, count = taps * channels;
  const T* weight = static_cast<const T*>(a.weight);
  for (int i = threadIdx.x; i < round_up(count, 4) * kOut; i += kThreads) {
    const int row = i / (4 * kOut) * 4 + i % 4, o = i / 4 % kOut;
    if (row >= count) continue;
    const int tap = row / channels, c = row % channels;
    const bool there = out + o < a.out;
    const int64_t at = (int64_t(out + o) * taps + tap) * a.in + channel + c;
    rows[row * kWeightRow + o] = there ? static_cast<Number>(to_float(weight[at])) : Number(0);
  }
}

template <class X, class T>
__global__ void __launch_bounds__(kThreads) direct(Plan plan) {
  using Number = Sum<T>;
  struct alignas(16) Four {
    Number values[4];
  };
  GAITEDGE_SHARED(shared);
  const FocalConv& a = plan.a;
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
  const int out = int(blockIdx.y) / plan.panels * kOut;
  const Tile tile(plan, int(blockIdx.y) % plan.panels);
  const int taps = a.kernel * a.kernel, plane = plane_of(plan);
  Number* const rows = reinterpret_cast<Number*>(shared);
  Number* const planes = rows + plan.chunk * taps * kWeightRow;
  // A thread has the four corners of one window, or pixels 32 apart.
  const int step = a.pool ? 0 : kWarp, corner = a.pool ? 1 : 0;
  const Pixel pixel[4] = {Pixel(plan, tile, lane, 0), Pixel(plan, tile, lane + step, corner),
                          Pixel(plan, tile, lane + 2 * step, 2 * corner),
                          Pixel(plan, tile, lane + 3 * step, 3 * corner)};

  for (int i = threadIdx.x; i < plan.chunk; i += kThreads) planes[i * plane + plan.records] = 0;
  Number sums[4][kOfThread] = {};
  for (int channel = 0; channel < a.in; channel += plan.chunk) {
    const int channels = a.in - channel < plan.chunk ? a.in - channel : plan.chunk;
    __syncthreads();
    stage_planes<X>(plan, tile, planes, channel, channels);
    stage_rows<T>(a, rows, out, channel, channels);
    __syncthreads();
    const Number* weight = rows + warp * kOfThread;
    for (int tap = 0; tap < taps; ++tap) {
      const int tap_row = tap / a.kernel, tap_column = tap - tap_row * a.kernel;
      const Number* x[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) x[i] = planes + pixel[i].record(plan, tile, tap_row, tap_column);
      for (int c = 0; c < channels; ++c, weight += kWeightRow) {
        const Four low = *reinterpret_cast<const Four*>(weight),
                   high = *reinterpret_cast<const Four*>(weight + 4);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const Number value = x[i][c * plane];
#pragma unroll
          for (int o = 0; o < 4; ++o) {
            sums[i][o] += value * low.values[o];
            sums[i][4 + o] += value * high.values[o];
          }
        }
      }
    }
  }
  __syncthreads();

  const int stride = result_stride<T, kOut>(plan);
#pragma unroll
  for (int o = 0; o < kOfThread; o += 2) {
    const int channel = warp * kOfThread + o;
    const float2 first = scale_and_bias<T>(a, out + channel),
                 second = scale_and_bias<T>(a, out + channel + 1);
    float low[4], high[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      low[i] = activated<X, T>(sums[i][o], first.x, first.y, a.slope);
      high[i] = activated<X, T>(sums[i][o + 1], second.x, second.y, a.slope);
    }
    unsigned char* const to = shared + channel * int(sizeof(T));
    if (a.pool) {
      put<T>(to + lane * stride, maximum(maximum(low[0], low[1]), maximum(low[2], low[3])),
             maximum(maximum(high[0], high[1]), maximum(high[2], high[3])), a.inverse_scale);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        put<T>(to + (i * kWarp + lane) * stride, low[i], high[i], a.inverse_scale);
      }
    }
  }
  __syncthreads();
  store<T, kOut>(plan, tile, shared, out);
}

}  // namespace focal_conv
}  // namespace gaitedge
