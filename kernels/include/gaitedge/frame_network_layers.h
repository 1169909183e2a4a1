// What the frame network is made of: maps in shared memory, and an FConv from one to the next.
//
// A map holds a block's pixels, channels side by side, with the zeros that surround them as pixels of its
// own. The 16-byte chunks of a pixel are permuted (`within`) such that eight pixels that follow each other
// in a row, or at its end go on two rows below, lie in different banks.
//
// An FConv is a matrix product: rows are pixels, columns output channels, and the depth is taps × input
// channels. Sixteen rows are eight columns x of two rows of the map, so that a 2×2 max-pool is one maximum
// within a thread and one between lanes that differ by 4.
#pragma once

#include "gaitedge/frame_network_weights.h"
#include "gaitedge/platform.h"
#include "gaitedge/tensor_core.h"

namespace gaitedge {
namespace frame_network {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;

// Arithmetic ------------------------------------------------------------------------------------------

struct Fp16 {
  using Value = half_t;  // of maps and weights
  using Pixel = half_t;  // of silhouettes
  using Sum = float;
  static constexpr int kSize = 2;
  static constexpr bool kScaled = false;
};

struct Int8 {
  using Value = int8_t;
  using Pixel = uint8_t;
  using Sum = int32_t;
  static constexpr int kSize = 1;
  static constexpr bool kScaled = true;
};

using gaitedge::maximum;
__device__ __forceinline__ int32_t maximum(int32_t a, int32_t b) { return a > b ? a : b; }

// Maps ------------------------------------------------------------------------------------------------

// FConv1's output for eight rows of FConv2's: a row more above and below, a column on each side.
struct Band {
  static constexpr int kRows = 10, kStride = 46, kPixels = kRows * kStride;
  static __host__ __device__ constexpr bool inside(int pixel) {
    return pixel % kStride != 0 && pixel % kStride != kStride - 1;
  }
};

// A strip of FConv3's and FConv4's, 8×22. A row's right border is the next one's left.
struct Strip {
  static constexpr int kStride = 23, kPixels = 10 * kStride + 1;
  static __host__ __device__ constexpr bool inside(int pixel) {
    return pixel % kStride != 0 && pixel >= kStride && pixel < 9 * kStride;
  }
  static __host__ __device__ constexpr int at(int y, int x) { return (y + 1) * kStride + x + 1; }
};

// Two strips of FConv5's and FConv6's, 2×11 each, side by side. A stride of 26 puts the eight pixels of
// two columns and all four rows into different banks.
struct Pair {
  static constexpr int kStride = 26, kShift = 12, kPixels = 4 * kStride;
  static __host__ __device__ constexpr bool inside(int pixel) {
    const int x = pixel % kStride;
    return pixel >= kStride && pixel < 3 * kStride && x != 0 && x != kShift && x < 2 * kShift;
  }
  static __host__ __device__ constexpr int at(int y, int x) {  // row y of four: 0, 1 are of the left strip
    return (y % 2 + 1) * kStride + y / 2 * kShift + x + 1;
  }
};

// The byte where 16-byte chunk `chunk` of a pixel of `Bytes` lies. That of chunk + 2k, of a pixel's k step k,
// is the same with 32k by exclusive or, for an even chunk or the one after it: 0 or 1.
template <int Bytes>
__device__ __forceinline__ int within(int pixel, int chunk) {
  const int key = Bytes == 32 ? pixel >> 2 & 1 : Bytes == 64 ? pixel >> 1 & 3 : pixel & 7;
  return pixel * Bytes + ((chunk ^ key) * 16);
}

// The biases, and for INT8 the scales, of all layers as they are packed: in global memory, or for INT8 in
// shared memory. Of `channel` and the next one:
__device__ __forceinline__ float2 bias_of(const float* constants, int layer, int channel) {
  return *reinterpret_cast<const float2*>(constants + channels_before(layer) + channel);
}
__device__ __forceinline__ float2 scale_of(const float* constants, int layer, int channel) {
  return bias_of(constants + kChannels, layer, channel);
}

// Zeros in all pixels around the map.
template <class Map, int Bytes>
__device__ __forceinline__ void clear_border(unsigned char* map) {
  constexpr int kChunks = Bytes / 16;
  for (int i = threadIdx.x; i < Map::kPixels * kChunks; i += kThreads) {
    if (!Map::inside(i / kChunks)) reinterpret_cast<uint4*>(map)[i] = make_uint4(0, 0, 0, 0);
  }
}

// Two neighbouring channels of a pixel.
template <class Arithmetic, int Channels>
__device__ __forceinline__ void put(unsigned char* map, int pixel, int channel, float2 values,
                                    float inverse) {
  constexpr int kBytes = Channels * Arithmetic::kSize;
  const int byte = channel * Arithmetic::kSize;
  unsigned char* const to = map + within<kBytes>(pixel, byte / 16) + byte % 16;
  if constexpr (Arithmetic::kScaled) {
    const int first = static_cast<uint8_t>(quantize(values.x, inverse));
    const int second = static_cast<uint8_t>(quantize(values.y, inverse));
    *reinterpret_cast<uint16_t*>(to) = static_cast<uint16_t>(first | second << 8);
  } else {
    *reinterpret_cast<uint32_t*>(to) = pack_half2(values.x, values.y);
  }
}

// Rows of the product: the top left tap of row `row` (0 to 15) of tile `tile`, as a pixel of the map that
// is read. -----------------------------------------------------------------------------------------------

// Two rows of `Width` pixels side by side, eight columns a tile; pairs of rows follow each other.
template <int Width, int Stride, int Tiles>
struct PairsOfRows {
  static constexpr int kTiles = Tiles, kWidth = Width;
  static __device__ __forceinline__ int top_left(int tile, int row) {
    const int column = 8 * tile + row % 8;
    return (2 * (column / Width) + row / 8) * Stride + column % Width;
  }
};
using BandRows = PairsOfRows<44, Band::kStride, 22>;
using StripRows = PairsOfRows<22, Strip::kStride, 11>;

// All 4×11 pixels of a Pair in three tiles: map row i is rows 2i and 2i + 1 of the products of eight, and
// column x is half x / 2 of the six halves of tiles. A lane and its neighbour by 4 have all of a map row.
struct PairRows {
  static constexpr int kTiles = 3, kWidth = 11;
  static __device__ __forceinline__ int map_row(int row) { return row % 8 / 2; }
  static __device__ __forceinline__ int column(int tile, int row) {  // up to 11, one too many
    return 4 * tile + row / 8 * 2 + row % 2;
  }
  static __device__ __forceinline__ int top_left(int tile, int row) {
    return Pair::at(map_row(row), column(tile, row)) - Pair::kStride - 1;
  }
};

// FConv2 to FConv6 -----------------------------------------------------------------------------------

template <int Layer>
struct RowsOf {
  using Type = StripRows;
  static constexpr int kStride = Strip::kStride;
};
template <>
struct RowsOf<2> {
  using Type = BandRows;
  static constexpr int kStride = Band::kStride;
};
template <>
struct RowsOf<5> {
  using Type = PairRows;
  static constexpr int kStride = Pair::kStride;
};
template <>
struct RowsOf<6> : RowsOf<5> {};

// The part of a layer's product that is one warp's: three tiles of 16 rows, and two or four of 8 columns.
template <class Arithmetic, int Layer>
struct Product {
  using Sum = typename Arithmetic::Sum;
  using Rows = typename RowsOf<Layer>::Type;
  static constexpr int kTiles = 3;
  static constexpr int kPairs = Layer <= 4 ? 2 : 1;  // of tiles of 8 columns
  static constexpr int kDown = Layer == 2 ? kWarps : Layer <= 4 ? 4 : 1;  // warps that share the rows
  static constexpr int kBytes = inputs(Layer) * Arithmetic::kSize;  // of a pixel
  static constexpr int kInTap = kBytes / 32, kSteps = 9 * kInTap;  // k steps
  // Taps at once, as many as leave registers free: a loop over fewer keeps fewer addresses.
  static constexpr int kTaps = kInTap == 1 || (kInTap == 2 && kPairs == 1) ? 3 : 1;
  static constexpr int kUnrolled = kTaps * kInTap;
  // k steps that weights are asked for ahead of their use; divides kUnrolled, for registers have fixed names.
  static constexpr int kAhead = kPairs == 2 ? (kTaps == 3 ? 3 : 2) : kTaps == 3 ? 6 : 4;
  static_assert(kUnrolled % kAhead == 0, "weights in registers would need an index");

  const unsigned char* packed;
  const float* constants;
  Sum sums[kTiles][2 * kPairs][4];
  uint4 ahead[kAhead][kPairs];

  static __device__ __forceinline__ int lane() { return threadIdx.x % kWarp; }
  static __device__ __forceinline__ int warp() { return threadIdx.x / kWarp; }
  static __device__ __forceinline__ int tile(int i) { return warp() % kDown + i * kDown; }
  static __device__ __forceinline__ int pair() { return warp() / kDown * kPairs; }
  // Of column 0 of the tile n, and the two that this lane has of it.
  static __device__ __forceinline__ int channel(int n) { return 16 * pair() + 8 * n + lane() % 4 * 2; }

  // Asks for what does not depend on other warps: call it before the barrier.
  __device__ __forceinline__ Product(const void* weights, const float* constants_)
      : packed(static_cast<const unsigned char*>(weights)), constants(constants_) {
#pragma unroll
    for (int step = 0; step < kAhead; ++step) ask(step, step);
#pragma unroll
    for (int n = 0; n < 2 * kPairs; ++n) {
      Sum low = 0, high = 0;
      if constexpr (!Arithmetic::kScaled) {  // FP16's sums begin with the bias
        const float2 bias = bias_of(constants, Layer, channel(n));
        low = bias.x;
        high = bias.y;
      }
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        sums[i][n][0] = sums[i][n][2] = low;
        sums[i][n][1] = sums[i][n][3] = high;
      }
    }
  }

  __device__ __forceinline__ void ask(int step, int place) {
    const auto* from = reinterpret_cast<const uint4*>(packed + weights_at(Layer, Arithmetic::kSize));
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      ahead[place][i] = from[((pair() + i) * kSteps + step) * kWarp + lane()];
    }
  }

  __device__ __forceinline__ void multiply(const unsigned char* map) {
    int pixel[kTiles];  // of the row that this lane names to load_matrices
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      // A tile beyond the last is the last one again; nobody keeps its sums.
      pixel[i] = Rows::top_left(tile(i) < Rows::kTiles ? tile(i) : Rows::kTiles - 1, lane() % 16);
    }
#pragma unroll 1
    for (int tap = 0; tap < 9; tap += kTaps) {
#pragma unroll
      for (int step = 0; step < kUnrolled; ++step) {
        uint32_t rows[kTiles][4];
#pragma unroll
        for (int i = 0; i < kTiles; ++i) {
          const int byte = within<kBytes>(pixel[i] + step / kInTap, lane() / 16) ^ (step % kInTap * 32);
          load_matrices(rows[i], map + byte);
        }
#pragma unroll
        for (int n = 0; n < 2 * kPairs; ++n) {
          const uint4 two = ahead[step % kAhead][n / 2];
          const uint32_t columns[2] = {n % 2 ? two.z : two.x, n % 2 ? two.w : two.y};
#pragma unroll
          for (int i = 0; i < kTiles; ++i) mma(sums[i][n], rows[i], columns);
        }
        if (step + kAhead < kUnrolled || tap + kTaps < 9) {
          ask(tap * kInTap + step + kAhead, step % kAhead);
        }
      }
      const bool row_ends = kTaps == 3 || tap % 3 == 2;
      const int next = row_ends ? RowsOf<Layer>::kStride - (3 - kTaps) : 1;
#pragma unroll
      for (int i = 0; i < kTiles; ++i) pixel[i] += next;
    }
  }

  // What the layer gives for sums of channels `channel` and the next one.
  __device__ __forceinline__ float2 activated(Sum low, Sum high, int channel, float slope) const {
    if constexpr (Arithmetic::kScaled) {
      const float2 bias = bias_of(constants, Layer, channel), scale = scale_of(constants, Layer, channel);
      return make_float2(leaky_relu(fmaf(static_cast<float>(low), scale.x, bias.x), slope),
                         leaky_relu(fmaf(static_cast<float>(high), scale.y, bias.y), slope));
    } else {
      return make_float2(leaky_relu(low, slope), leaky_relu(high, slope));
    }
  }

  // Hands every pixel to `keep(tile, row, channel, values)`, two channels at once; so those that are none.
  template <class Keep>
  __device__ __forceinline__ void finish(float slope, Keep keep) const {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      if (tile(i) >= Rows::kTiles) continue;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int n = 0; n < 2 * kPairs; ++n) {
          const Sum* const two = sums[i][n] + 2 * half;
          keep(tile(i), lane() / 4 + 8 * half, channel(n), activated(two[0], two[1], channel(n), slope));
        }
      }
    }
  }

  // The same after a 2×2 max-pool: `keep(y, x, channel, values)`. What follows the sums never falls where
  // they rise, so the maximum of sums comes first; the slope must be positive for it.
  template <class Keep>
  __device__ __forceinline__ void finish_pooled(float slope, Keep keep) const {
    const bool odd = lane() / 4 % 2;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const int column = 8 * tile(i) + lane() / 4;
#pragma unroll
      for (int n = 0; n < 2 * kPairs; n += 2) {
        Sum most[2];
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const Sum left = maximum(sums[i][n][j], sums[i][n][j + 2]);
          const Sum right = maximum(sums[i][n + 1][j], sums[i][n + 1][j + 2]);
          // Lanes of even columns keep tile n, those of odd ones tile n + 1.
          most[j] = maximum(odd ? right : left, __shfl_xor_sync(kAllLanes, odd ? left : right, 4));
        }
        if (tile(i) < Rows::kTiles) {
          const int kept = channel(n) + 8 * odd;
          keep(column / Rows::kWidth, column % Rows::kWidth / 2, kept,
               activated(most[0], most[1], kept, slope));
        }
      }
    }
  }
};

}  // namespace frame_network
}  // namespace gaitedge
