// Horizontal pooling, HP (Eq. 2): y[i, part, c] = average + maximum of the part's strip of x[i, c].
//
// Layout      x [count, channels, height, width] or, channels last, [count, height, width, channels];
//             y [count, parts, channels]. FP32 or FP16, summed in FP32.
// Tiling      Channels last: a thread reads 16 bytes, so four or eight channels, of each pixel of one
//             part; neighbours in a warp read neighbouring bytes, and write so.
//             Channels first: a block copies whole maps of a few channels to shared memory, in the order
//             in which they lie, and a thread then sums one part of one channel. Maps are an odd number
//             of words apart there, so that the 32 channels of a warp lie in 32 banks.
// Bytes       Every input once, every output once: for the paper's 16×11×128 in FP16, 45 kB in and 4 kB
//             out a frame. Operations: two a value. Memory is the limit by far.
// Variants    Channels first without shared memory, each thread over its own strip: a warp's loads are
//             22 bytes apart and touch every sector several times. A warp for each strip with shuffles:
//             11 columns leave two lanes of three idle.
#pragma once

#include "gaitedge/arguments.h"
#include "gaitedge/platform.h"

namespace gaitedge {
namespace part_pool {

constexpr int kThreads = 256;
constexpr size_t kTile = 32 * 1024;  // bytes of shared memory that a block aims at, channels first

template <class T>
struct Chunk {  // 16 bytes
  static constexpr int kValues = 16 / sizeof(T);
  uint4 bits;
  __device__ __forceinline__ float value(int i) const { return to_float(reinterpret_cast<const T*>(&bits)[i]); }
  __device__ __forceinline__ void set(int i, float x) { reinterpret_cast<T*>(&bits)[i] = from_float<T>(x); }
};

// `Values` channels a thread: 16 bytes of them, or one where they do not come in such multiples.
template <class T, int Values>
__global__ void __launch_bounds__(kThreads) channels_last(PartPool a) {
  const int chunks = a.channels / Values;
  const int64_t number = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (number >= int64_t(a.count) * a.parts * chunks) return;
  const int chunk = int(number % chunks), part = int(number / chunks % a.parts);
  const int64_t image = number / chunks / a.parts;
  const int start = strip_start(a.height, a.parts, part);
  const int pixels = (strip_start(a.height, a.parts, part + 1) - start) * a.width;
  const T* x = static_cast<const T*>(a.x) + (image * a.height + start) * a.width * a.channels + chunk * Values;
  T* y = static_cast<T*>(a.y) + (image * a.parts + part) * a.channels + chunk * Values;

  float sum[Values], most[Values];
#pragma unroll
  for (int i = 0; i < Values; ++i) {
    sum[i] = 0.f;
    most[i] = -INFINITY;
  }
  for (int pixel = 0; pixel < pixels; ++pixel, x += a.channels) {
    if constexpr (Values == 1) {
      const float value = to_float(*x);
      sum[0] += value;
      most[0] = maximum(most[0], value);
    } else {
      const Chunk<T> read{*reinterpret_cast<const uint4*>(x)};
#pragma unroll
      for (int i = 0; i < Values; ++i) {
        sum[i] += read.value(i);
        most[i] = maximum(most[i], read.value(i));
      }
    }
  }
  if constexpr (Values == 1) {
    *y = from_float<T>(sum[0] / pixels + most[0]);
  } else {
    Chunk<T> made;
#pragma unroll
    for (int i = 0; i < Values; ++i) made.set(i, sum[i] / pixels + most[i]);
    *reinterpret_cast<uint4*>(y) = made.bits;
  }
}

// Words from one channel's map to the next in shared memory: odd.
template <class T>
__host__ __device__ constexpr int map_stride(int pixels) {
  return ceil_div(pixels * int(sizeof(T)), 4) | 1;
}

// Channels whose maps one block has at once: as many as the tile holds, a whole warp of them if it can.
template <class T>
__host__ __device__ inline int channels_at_once(int channels, int pixels) {
  const int fit = int(kTile / 4) / map_stride<T>(pixels);
  const int some = fit < 1 ? 1 : fit >= kWarp ? fit / kWarp * kWarp : fit;
  return some < channels ? some : channels;
}

template <class T>
__global__ void __launch_bounds__(kThreads) channels_first(PartPool a) {
  GAITEDGE_SHARED(shared);
  const int pixels = a.height * a.width, stride = map_stride<T>(pixels) * 4 / int(sizeof(T));
  const int at_once = channels_at_once<T>(a.channels, pixels);
  const int tiles = ceil_div(a.channels, at_once);
  const int64_t image = blockIdx.x / tiles;
  const int first = int(blockIdx.x % tiles) * at_once;
  const int channels = a.channels - first < at_once ? a.channels - first : at_once;
  const T* x = static_cast<const T*>(a.x) + (image * a.channels + first) * pixels;
  T* tile = reinterpret_cast<T*>(shared);

  // A warp a map: a division for each value would take longer than its way here.
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  for (int channel = warp; channel < channels; channel += kThreads / kWarp) {
#pragma unroll 4
    for (int i = lane; i < pixels; i += kWarp) tile[channel * stride + i] = x[int64_t(channel) * pixels + i];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < channels * a.parts; i += kThreads) {
    const int channel = i % channels, part = i / channels;
    const int start = strip_start(a.height, a.parts, part) * a.width;
    const int end = strip_start(a.height, a.parts, part + 1) * a.width;
    float sum = 0.f, most = -INFINITY;
    for (int pixel = start; pixel < end; ++pixel) {
      const float value = to_float(tile[channel * stride + pixel]);
      sum += value;
      most = maximum(most, value);
    }
    T* y = static_cast<T*>(a.y) + (image * a.parts + part) * a.channels + first + channel;
    *y = from_float<T>(sum / (end - start) + most);
  }
}

template <class T>
int launch_typed(const PartPool& a, void* stream) {
  if (a.layout == kChannelsLast) {
    constexpr int kValues = Chunk<T>::kValues;
    const bool whole = a.channels % kValues == 0;
    const int64_t threads = int64_t(a.count) * a.parts * (whole ? a.channels / kValues : a.channels);
    const unsigned blocks = unsigned((threads + kThreads - 1) / kThreads);
    return launch(whole ? channels_last<T, kValues> : channels_last<T, 1>, blocks, kThreads, 0, stream, a);
  }
  const int pixels = a.height * a.width, at_once = channels_at_once<T>(a.channels, pixels);
  const size_t bytes = size_t(at_once) * map_stride<T>(pixels) * 4;
  return launch(channels_first<T>, unsigned(a.count) * ceil_div(a.channels, at_once), kThreads, bytes, stream, a);
}

}  // namespace part_pool

inline int launch_part_pool(const PartPool& a, void* stream) {
  if (a.count < 0 || a.channels < 1 || a.parts < 1 || a.parts > a.height || a.width < 1) return kUnsupported;
  if (a.layout != kChannelsFirst && a.layout != kChannelsLast) return kUnsupported;
  if (a.type == kFloat32) return part_pool::launch_typed<float>(a, stream);
  if (a.type == kFloat16) return part_pool::launch_typed<half_t>(a, stream);
  return kUnsupported;
}

}  // namespace gaitedge
