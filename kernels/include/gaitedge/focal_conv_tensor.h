// FConv on tensor cores: FP16 where `in` is a multiple of 16, INT8 where it is one of 32.
//
// A block's kPixels pixels are the rows of a matrix product, 32 a warp, and `Out` output channels its
// columns. The sum runs over stages: a stage is one tap of the kernel and 64 bytes of input channels, so
// two k steps. The 64 bytes of all pixels that the block needs are staged once for all taps; the tap's
// weights are copied three stages ahead, in a ring of four, with one barrier a stage.
//
// Records of pixels and of weights are 80 bytes apart: eight neighbours lie in different banks.
#pragma once

#include "gaitedge/focal_conv_tile.h"
#include "gaitedge/tensor_core.h"

namespace gaitedge {
namespace focal_conv {

constexpr int kChunk = 64;               // bytes of input channels of a stage
constexpr int kRecord = 80;              // bytes from one record to the next
constexpr int kRing = 4;                 // stages of weights
constexpr int kSharedLimit = 64 * 1024;  // bytes a block: what compute capability 7.5 has

template <class T>
__host__ __device__ inline int chunks_of(const FocalConv& a) {
  return ceil_div(a.in * int(sizeof(T)), kChunk);
}

// Bytes of shared memory: weights, then one or two chunks of pixels, each with a record of zeros after it.
template <class T, int Out>
inline int64_t tensor_shared(const Plan& plan) {
  const int buffers = chunks_of<T>(plan.a) > 1 ? 2 : 1;
  return int64_t(kRing * Out + buffers * (plan.records + 1)) * kRecord;
}

// One word of channels of one pixel, from maps that lie `map` elements apart.
template <class T>
__device__ __forceinline__ uint32_t gather_word(const T* from, int64_t map) {
  constexpr int kBits = 8 * int(sizeof(T));
  using Bits = std::conditional_t<sizeof(T) == 2, uint16_t, uint8_t>;
  const Bits* bits = reinterpret_cast<const Bits*>(from);
  uint32_t word = 0;
#pragma unroll
  for (int i = 0; i < 32 / kBits; ++i) word |= uint32_t(bits[i * map]) << (i * kBits);
  return word;
}

// Stages `bytes` (32 or 64) of the input channels from `channel` on, of all pixels of the tile.
template <class T>
__device__ __forceinline__ void stage_pixels(const Plan& plan, const Tile& tile, unsigned char* to,
                                             int channel, int bytes) {
  const FocalConv& a = plan.a;
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
  const int64_t map = int64_t(a.height) * a.width;
#pragma unroll 1  // here and below: registers matter more than these loops
  for (int row = warp; row < tile.x_rows; row += kThreads / kWarp) {
    const T* from = static_cast<const T*>(a.x) +
                    element(a.layout, a.in, a.height, a.width, tile.x_row + row, tile.x_column, channel);
    unsigned char* line = to + row * tile.x_columns * kRecord;
    if (a.layout == kChannelsFirst) {  // a warp takes eight columns, three times, of four words of channels
      constexpr int kValues = 4 / int(sizeof(T)), kAtOnce = 3;
#pragma unroll 1
      for (int word = lane / 8; word < bytes / 4; word += 4) {
        const T* channels = from + word * kValues * map;
#pragma unroll 1
        for (int first = lane % 8; first < tile.x_columns; first += 8 * kAtOnce) {
          uint32_t words[kAtOnce];
#pragma unroll
          for (int i = 0; i < kAtOnce; ++i) {
            if (first + 8 * i < tile.x_columns) words[i] = gather_word(channels + first + 8 * i, map);
          }
#pragma unroll
          for (int i = 0; i < kAtOnce; ++i) {
            if (first + 8 * i >= tile.x_columns) continue;
            unsigned char* const record = line + tile.place(plan, first + 8 * i) * kRecord;
            *reinterpret_cast<uint32_t*>(record + 4 * word) = words[i];
          }
        }
      }
    } else {
      const int pixel = a.layout == kChannelsLast ? a.in * int(sizeof(T)) : 32;  // bytes to the next
      const int64_t block = a.layout == kChannelsLast ? 32 : map * 32;           // to the next 32 bytes of it
      const int shift = bytes == kChunk ? 2 : 1;
#pragma unroll 1
      for (int i = lane; i < tile.x_columns << shift; i += kWarp) {
        const int column = i >> shift, unit = i & ((1 << shift) - 1);
        copy_async16(line + tile.place(plan, column) * kRecord + unit * 16,
                     reinterpret_cast<const unsigned char*>(from) + int64_t(column) * pixel +
                         (unit >> 1) * block + (unit & 1) * 16);
      }
    }
  }
}

// Stages one tap's weights of `Out` output channels.
template <class T, int Out>
__device__ __forceinline__ void stage_weights(const FocalConv& a, unsigned char* to, int out, int tap,
                                              int channel, int bytes) {
  constexpr int kUnits = kChunk / 16;
  const int unit = int(threadIdx.x) % kUnits;
  if (unit * 16 >= bytes) return;
#pragma unroll
  for (int i = int(threadIdx.x) / kUnits; i < Out; i += kThreads / kUnits) {
    const bool there = out + i < a.out;
    const int64_t row = int64_t(there ? out + i : 0) * a.kernel * a.kernel + tap;
    copy_async16(to + i * kRecord + unit * 16,
                 static_cast<const unsigned char*>(a.weight) + (row * a.in + channel) * sizeof(T) + unit * 16,
                 there);
  }
}

template <class T, int Out>
__global__ void __launch_bounds__(kThreads, 3) tensor(Plan plan) {
  GAITEDGE_SHARED(shared);
  const FocalConv& a = plan.a;
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
  const int out = int(blockIdx.y) / plan.panels * Out;
  const Tile tile(plan, int(blockIdx.y) % plan.panels);
  const int taps = a.kernel * a.kernel, chunks = chunks_of<T>(a), stages = taps * chunks;
  const int channels_a_chunk = kChunk / int(sizeof(T));
  const int buffer = (plan.records + 1) * kRecord;
  unsigned char* const weights = shared;
  unsigned char* const pixels = shared + kRing * Out * kRecord;
  // A kernel of one tap changes its pixels with each stage, and there are two buffers of them.
  const int ahead = taps == 1 ? 1 : kRing - 1;

  for (int i = threadIdx.x; i < (chunks > 1 ? 2 : 1) * kChunk / 4; i += kThreads) {
    unsigned char* zeros = pixels + i / (kChunk / 4) * buffer + plan.records * kRecord;
    reinterpret_cast<uint32_t*>(zeros)[i % (kChunk / 4)] = 0;
  }

  // Fragment f's row lane % 16, which load_matrices wants from this lane. With a pool the rows 8c to 8c + 7
  // of a warp are corner c of eight windows: C's fragments have all corners of one in the same thread.
  const int j0 = a.pool ? warp * 8 + lane % 8 : warp * 32 + lane % 16;
  const Pixel pixel[2] = {Pixel(plan, tile, j0, a.pool ? lane / 8 % 2 : 0),
                          Pixel(plan, tile, a.pool ? j0 : j0 + 16, a.pool ? 2 + lane / 8 % 2 : 0)};

  int next_tap = 0, next_chunk = 0;  // of the stage that is copied next
  const auto copy_stage = [&](int stage) {
    if (stage < stages) {
      const int channel = next_chunk * channels_a_chunk, rest = (a.in - channel) * int(sizeof(T));
      const int bytes = rest < kChunk ? rest : kChunk;
      if (next_tap == 0) stage_pixels<T>(plan, tile, pixels + (next_chunk & 1) * buffer, channel, bytes);
      stage_weights<T, Out>(a, weights + stage % kRing * Out * kRecord, out, next_tap, channel, bytes);
      if (++next_tap == taps) {
        next_tap = 0;
        ++next_chunk;
      }
    }
    copy_commit();
  };
#pragma unroll 1
  for (int stage = 0; stage < ahead; ++stage) copy_stage(stage);

  Sum<T> sums[2][Out / 8][4] = {};
  int tap_row = 0, tap_column = 0, chunk = 0;
#pragma unroll 1
  for (int stage = 0; stage < stages; ++stage) {
    if (ahead == 1) {
      copy_wait<0>();
    } else {
      copy_wait<kRing - 2>();
    }
    __syncthreads();
    copy_stage(stage + ahead);  // over what was read in the stage before

    const unsigned char* const own = pixels + (chunk & 1) * buffer + lane / 16 * 16;
    const unsigned char* const from[2] = {own + pixel[0].record(plan, tile, tap_row, tap_column) * kRecord,
                                          own + pixel[1].record(plan, tile, tap_row, tap_column) * kRecord};
    const unsigned char* const columns =
        weights + (stage % kRing * Out + lane % 8 + lane / 16 * 8) * kRecord + lane / 8 % 2 * 16;
    const int steps = (a.in - chunk * channels_a_chunk) * int(sizeof(T)) > kChunk / 2 ? 2 : 1;
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      if (step >= steps) break;
      uint32_t x[2][4];
      load_matrices(x[0], from[0] + step * 32);
      load_matrices(x[1], from[1] + step * 32);
#pragma unroll
      for (int n = 0; n < Out / 16; ++n) {
        uint32_t both[4];
        load_matrices(both, columns + n * 16 * kRecord + step * 32);
        const uint32_t low[2] = {both[0], both[1]}, high[2] = {both[2], both[3]};
        mma(sums[0][2 * n], x[0], low);
        mma(sums[1][2 * n], x[1], low);
        mma(sums[0][2 * n + 1], x[0], high);
        mma(sums[1][2 * n + 1], x[1], high);
      }
    }
    if (++tap_column == a.kernel) {
      tap_column = 0;
      if (++tap_row == a.kernel) {
        tap_row = 0;
        ++chunk;
      }
    }
  }
  copy_wait<0>();
  __syncthreads();

  const int stride = result_stride<T, Out>(plan);
#pragma unroll
  for (int n = 0; n < Out / 8; ++n) {
    const int channel = 8 * n + 2 * (lane % 4);
    const float2 first = scale_and_bias<T>(a, out + channel),
                 second = scale_and_bias<T>(a, out + channel + 1);
    float low[4], high[4];  // by the row: lane / 4 + 8 · index
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      low[i] = activated<T, T>(sums[i / 2][n][i % 2 * 2], first.x, first.y, a.slope);
      high[i] = activated<T, T>(sums[i / 2][n][i % 2 * 2 + 1], second.x, second.y, a.slope);
    }
    unsigned char* const to = shared + channel * int(sizeof(T));
    if (a.pool) {
      put<T>(to + (warp * 8 + lane / 4) * stride, maximum(maximum(low[0], low[1]), maximum(low[2], low[3])),
             maximum(maximum(high[0], high[1]), maximum(high[2], high[3])), a.inverse_scale);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        put<T>(to + (warp * 32 + lane / 4 + 8 * i) * stride, low[i], high[i], a.inverse_scale);
      }
    }
  }
  __syncthreads();
  store<T, Out>(plan, tile, shared, out);
}

}  // namespace focal_conv
}  // namespace gaitedge
