// The paper's frame network (Tab. 1) and HP (Eq. 2) in one launch: silhouettes → PR-Matrix (Eq. 1).
//
//   FConv1 5×5 1→32, FConv2 3×3 32→32, 2×2 max-pool      one strip    64×44
//   FConv3 3×3 32→64, FConv4 3×3 64→64, 2×2 max-pool     4 strips     32×22
//   FConv5 3×3 64→128, FConv6 3×3 128→128                8 strips     16×11
//   HP: average + maximum of each of the 16 rows, over its 11 columns
//
// LeakyReLU after every FConv, an optional bias before it. FP16 or INT8 products on tensor cores, summed in
// FP32 or INT32. FP16: what goes from layer to layer is rounded to FP16; HP reads FP32. INT8: it is int8 of
// one scale a layer, the silhouettes are uint8 as they are (FP16 ones rounded and held within 0 to 255), and
// FConv6 and HP are FP32 after the sum.
//
// Layout      silhouettes [frames, 64, 44] uint8 or FP16; features [frames, 16, 128] FP16; weights: see
//             frame_network_weights.h.
// Tiling      A block of 256 threads is a quarter of a frame: from FConv3 on that is one strip, and from
//             FConv5 on two, which see nothing else. FConv1 and FConv2 need three more rows of the
//             silhouette on each side: FConv1's row above and below is computed by both neighbours.
//             FConv1 and FConv2 go in two bands of eight rows of FConv2's output. Maps stay in shared
//             memory, in two places, which layers write in turn:
//               odd   FConv1's band 10×46×32 and the silhouette's rows; FConv3's 10×23×64; FConv5's
//                     4×26×128
//               even  FConv2's, pooled, 10×23×32; FConv4's, pooled, 4×26×64
//             48,448 bytes in FP16 and, with INT8's scales and biases, 27,872 in INT8: two blocks a
//             multiprocessor, but one of FP16 on sm_75.
//             A layer is a matrix product: its rows, pixels, are read by load_matrices from wherever tap
//             and pixel say (implicit GEMM); its columns, packed weights, by 16-byte loads from L2 or L1
//             straight to registers, two to six k steps ahead of their use. A warp has 48 pixels × 32
//             channels in FConv2 to FConv4, and 48 × 16 in FConv5 and FConv6, where all warps share the 44
//             pixels: the weights, not they, are what is large there, and each is read by one warp.
//             FConv1's depth is 25 taps, in pairs of neighbours; a second copy of the silhouette, shifted by
//             a column, makes an aligned word of every pair.
//             HP needs no memory: rows of the last products are dealt to lanes such that two of them have
//             all of a map row.
// Bytes       A frame: 2,816 of silhouette (uint8) and 4,096 of features; each of its four blocks reads all
//             weights from L2, 575 kB in FP16 and 290 kB in INT8; its warps share FConv1's to FConv4's in
//             L1. Operations: 106 M multiply-adds a frame; 117 M with FConv1's halo, its depth of 32, and
//             rows of products that are no pixel.
// Variants    Considered. Weights through shared memory: a barrier for every slice, and room that two blocks
//             do not have. Half a frame a block: half the weights' traffic, but one block a multiprocessor,
//             and 60 blocks for 30 frames. Two quarters in FConv5 and FConv6 alone, which have three
//             quarters of the weights: a cluster of two blocks (sm_90), or a map in global memory. A tile
//             that no pixel has (FConv2's last two warps', FConv3's and FConv4's last) could be left out
//             by a branch: the schedulers that share the tensor cores wait for the others either way.
#pragma once

#include "gaitedge/arguments.h"
#include "gaitedge/frame_network_layers.h"

namespace gaitedge {
namespace frame_network {

constexpr int kHeight = 64, kWidth = 44, kQuarters = 4, kBands = 2, kParts = 16;
constexpr int kRows = 22, kColumns = 48;  // of the silhouette that a block reads, with its zeros
constexpr int kCopy = kRows * kColumns;

template <class Arithmetic>
struct Memory {  // of a block: bytes from its start
  static constexpr int kSilhouette = Band::kPixels * 32 * Arithmetic::kSize;
  static constexpr int kEven = round_up(kSilhouette + 2 * kCopy * Arithmetic::kSize, 128);
  static constexpr int kConstants = kEven + Strip::kPixels * 32 * Arithmetic::kSize;  // INT8 alone
  static constexpr int kBytes = kConstants + (Arithmetic::kScaled ? 2 * kChannels * 4 : 0);
  static_assert(Strip::kPixels * 64 * Arithmetic::kSize <= kEven, "FConv3's map has no room");
  static_assert(Pair::kPixels * 128 * Arithmetic::kSize <= kEven, "FConv5's map has no room");
  static_assert(Pair::kPixels * 64 * Arithmetic::kSize <= kConstants - kEven, "FConv4's map has no room");
  static_assert(kBytes <= int(kSharedWithoutAsking), "two blocks have no room on a multiprocessor");
};

// The silhouette ------------------------------------------------------------------------------------

__device__ __forceinline__ void convert(half_t& to, float pixel) { to = from_float<half_t>(pixel); }
__device__ __forceinline__ void convert(uint8_t& to, float pixel) {
  to = static_cast<uint8_t>(rintf(fminf(fmaxf(pixel, 0.f), 255.f)));  // NaN becomes 0
}

// Rows 16·quarter - 3 onwards, two zeros on each side, and zeros beyond the frame; then the same a column
// to the left. Has a barrier.
template <class Pixel>
__device__ __forceinline__ void read_silhouette(const FrameNetwork& a, int frame, int quarter,
                                                Pixel* copies) {
  constexpr int kWords = kWidth / 4;  // threads a row, four pixels each
  const int row = threadIdx.x / kWords, column = threadIdx.x % kWords * 4;
  const int y = 16 * quarter - 3 + row;
  const bool there = row < kRows && y >= 0 && y < kHeight;
  float pixels[4] = {};
  if (there) {
    const int64_t first = (int64_t(frame) * kHeight + y) * kWidth + column;
    if (a.pixels == kUint8) {
      const uint32_t four = static_cast<const uint32_t*>(a.silhouettes)[first / 4];
#pragma unroll
      for (int i = 0; i < 4; ++i) pixels[i] = static_cast<float>(four >> 8 * i & 255);
    } else {
      const uint2 four = static_cast<const uint2*>(a.silhouettes)[first / 4];
      const float2 left = unpack_half2(four.x), right = unpack_half2(four.y);
      pixels[0] = left.x;
      pixels[1] = left.y;
      pixels[2] = right.x;
      pixels[3] = right.y;
    }
  }
  for (int i = threadIdx.x; i < 2 * kCopy * int(sizeof(Pixel)) / 16; i += kThreads) {
    reinterpret_cast<uint4*>(copies)[i] = make_uint4(0, 0, 0, 0);
  }
  __syncthreads();
  if (there) {
    Pixel* const to = copies + row * kColumns + column + 2;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      convert(to[i], pixels[i]);
      convert(to[kCopy + i - 1], pixels[i]);
    }
  }
}

// 1 / scale of the input of FConv `layer`, for INT8.
template <class Arithmetic>
__device__ __forceinline__ float inverse_of(const FrameNetwork& a, int layer) {
  if constexpr (!Arithmetic::kScaled) return 0.f;
  const auto* const packed = static_cast<const unsigned char*>(a.weights);
  return *reinterpret_cast<const float*>(packed + inverse_at(layer));
}

// FConv1 ----------------------------------------------------------------------------------------------

// Where pair `pair` of the 32 taps lies, from the top left one; the last pair is of no tap.
__device__ __forceinline__ int pair_at(int pair) {
  return pair < 15 ? pair / 3 * kColumns + pair % 3 * 2 : 0;
}

// Eight rows of FConv1's output and the ones above and below, into `map`; rows beyond the frame are zeros.
template <class Arithmetic>
__device__ __forceinline__ void first_layer(const FrameNetwork& a, const float* constants, int quarter,
                                            int band, const typename Arithmetic::Pixel* copies,
                                            unsigned char* map) {
  using Pixel = typename Arithmetic::Pixel;
  constexpr int kSteps = depth(1) * Arithmetic::kSize / 32;
  constexpr int kPixels = Band::kRows * kWidth, kTiles = ceil_div(kPixels, 16);
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const auto* const packed = static_cast<const unsigned char*>(a.weights);
  uint4 columns[kSteps][2];
  float2 bias[4], scale[4];
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      columns[step][i] = reinterpret_cast<const uint4*>(packed)[(i * kSteps + step) * kWarp + lane];
    }
  }
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    bias[n] = bias_of(constants, 1, 8 * n + 2 * t);
    scale[n] = make_float2(1.f / 255.f, 1.f / 255.f);
    if constexpr (Arithmetic::kScaled) scale[n] = scale_of(constants, 1, 8 * n + 2 * t);
  }
  const float inverse = inverse_of<Arithmetic>(a, 2);

  int tap[4];
  uint32_t mask[4];  // without the taps that are none: zero times infinity would be NaN
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int pair = Arithmetic::kScaled ? 8 * (i / 2) + 2 * t + i % 2 : 4 * i + t;
    tap[i] = pair_at(pair);
    mask[i] = pair == 15 ? 0 : pair % 3 == 2 ? 0xffffu : 0xffffffffu;
  }
  __syncthreads();
  clear_border<Band, 32 * Arithmetic::kSize>(map);

#pragma unroll 1
  for (int tile = threadIdx.x / kWarp; tile < kTiles; tile += kWarps) {
    uint32_t rows[kSteps][4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int number = 16 * tile + 8 * half + g;
      const int pixel = number < kPixels ? number : 0, y = pixel / kWidth, x = pixel % kWidth;
      const Pixel* const from = copies + x % 2 * kCopy + (8 * band + y) * kColumns + x / 2 * 2;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if constexpr (Arithmetic::kScaled) {
          const uint32_t low = *reinterpret_cast<const uint16_t*>(from + tap[2 * i]);
          const uint32_t high = *reinterpret_cast<const uint16_t*>(from + tap[2 * i + 1]);
          rows[0][half + 2 * i] = low | high << 16;
        } else {
#pragma unroll
          for (int step = 0; step < kSteps; ++step) {
            const int pair = 2 * step + i;
            rows[step][half + 2 * i] = *reinterpret_cast<const uint32_t*>(from + tap[pair]) & mask[pair];
          }
        }
      }
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      typename Arithmetic::Sum sums[4] = {};
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        const uint4 two = columns[step][n / 2];
        const uint32_t column[2] = {n % 2 ? two.z : two.x, n % 2 ? two.w : two.y};
        if constexpr (Arithmetic::kScaled) {
          mma<true>(sums, rows[step], column);
        } else {
          mma(sums, rows[step], column);
        }
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int pixel = 16 * tile + 8 * half + g, y = pixel / kWidth;
        const int row = 16 * quarter + 8 * band - 1 + y;
        float2 values = make_float2(0.f, 0.f);
        if (row >= 0 && row < kHeight) {
          const float low = static_cast<float>(sums[2 * half]), high = static_cast<float>(sums[2 * half + 1]);
          values.x = leaky_relu(fmaf(low, scale[n].x, bias[n].x), a.slope);
          values.y = leaky_relu(fmaf(high, scale[n].y, bias[n].y), a.slope);
        }
        if (pixel < kPixels) {
          put<Arithmetic, 32>(map, y * Band::kStride + pixel % kWidth + 1, 8 * n + 2 * t, values, inverse);
        }
      }
    }
  }
}

// FConv2 to FConv6 -----------------------------------------------------------------------------------

// FConv2 and FConv4, into the inside of a map of the next size.
template <class Arithmetic, int Layer, class Map>
__device__ __forceinline__ void pooled_layer(const FrameNetwork& a, const float* constants, int first_row,
                                             const unsigned char* from, unsigned char* to) {
  Product<Arithmetic, Layer> product(a.weights, constants);
  const float inverse = inverse_of<Arithmetic>(a, Layer + 1);
  __syncthreads();
  clear_border<Map, outputs(Layer) * Arithmetic::kSize>(to);
  product.multiply(from);
  product.finish_pooled(a.slope, [&](int y, int x, int channel, float2 values) {
    put<Arithmetic, outputs(Layer)>(to, Map::at(first_row + y, x), channel, values, inverse);
  });
}

// FConv3 and FConv5, into a map of the same size.
template <class Arithmetic, int Layer, class Map>
__device__ __forceinline__ void layer(const FrameNetwork& a, const float* constants,
                                      const unsigned char* from, unsigned char* to) {
  using Rows = typename RowsOf<Layer>::Type;
  Product<Arithmetic, Layer> product(a.weights, constants);
  const float inverse = inverse_of<Arithmetic>(a, Layer + 1);
  __syncthreads();
  clear_border<Map, outputs(Layer) * Arithmetic::kSize>(to);
  product.multiply(from);
  product.finish(a.slope, [&](int tile, int row, int channel, float2 values) {
    const int pixel = Rows::top_left(tile, row) + Map::kStride + 1;
    if (Map::inside(pixel)) put<Arithmetic, outputs(Layer)>(to, pixel, channel, values, inverse);
  });
}

// FConv6 and HP: a lane and its neighbour by 4 hold a map row of four channels, in turn column by column.
template <class Arithmetic>
__device__ __forceinline__ void last_layer(const FrameNetwork& a, const float* constants, int frame,
                                           int quarter, const unsigned char* from) {
  Product<Arithmetic, 6> product(a.weights, constants);
  __syncthreads();
  product.multiply(from);
  const int lane = product.lane(), g = lane / 4;
  float2 sum[2], most[2];
#pragma unroll
  for (int n = 0; n < 2; ++n) {
#pragma unroll
    for (int i = 0; i < 6; ++i) {
      const typename Arithmetic::Sum* const two = product.sums[i / 2][n] + i % 2 * 2;
      const float2 value = product.activated(two[0], two[1], product.channel(n), a.slope);
      if (i == 0) {
        sum[n] = most[n] = value;
      } else if (PairRows::column(i / 2, g + i % 2 * 8) < PairRows::kWidth) {
        sum[n] = make_float2(sum[n].x + value.x, sum[n].y + value.y);
        most[n] = make_float2(maximum(most[n].x, value.x), maximum(most[n].y, value.y));
      }
    }
  }
  // Lanes of even columns keep tile 0, those of odd ones tile 1.
  const bool odd = g % 2;
  const float2 theirs = odd ? sum[0] : sum[1], theirs_most = odd ? most[0] : most[1];
  const float2 mine = odd ? sum[1] : sum[0], mine_most = odd ? most[1] : most[0];
  const float low = (mine.x + __shfl_xor_sync(kAllLanes, theirs.x, 4)) / PairRows::kWidth;
  const float high = (mine.y + __shfl_xor_sync(kAllLanes, theirs.y, 4)) / PairRows::kWidth;
  const float low_most = maximum(mine_most.x, __shfl_xor_sync(kAllLanes, theirs_most.x, 4));
  const float high_most = maximum(mine_most.y, __shfl_xor_sync(kAllLanes, theirs_most.y, 4));
  const int64_t part = int64_t(frame) * kParts + 4 * quarter + PairRows::map_row(g);
  const int channel = product.channel(0) + 8 * odd;
  static_cast<uint32_t*>(a.features)[(part * outputs(6) + channel) / 2] =
      pack_half2(low + low_most, high + high_most);
}

template <class Arithmetic>
__global__ void __launch_bounds__(kThreads, 2) frame_network(FrameNetwork a) {
  GAITEDGE_SHARED(shared);
  unsigned char* const odd = shared;
  unsigned char* const even = shared + Memory<Arithmetic>::kEven;
  const int frame = blockIdx.x / kQuarters, quarter = blockIdx.x % kQuarters;
  auto* const copies =
      reinterpret_cast<typename Arithmetic::Pixel*>(shared + Memory<Arithmetic>::kSilhouette);

  const auto* const packed = static_cast<const unsigned char*>(a.weights);
  const auto* constants = reinterpret_cast<const float*>(packed + bias_at(1, Arithmetic::kSize));
  if constexpr (Arithmetic::kScaled) {
    auto* const kept = reinterpret_cast<float*>(shared + Memory<Arithmetic>::kConstants);
    for (int i = threadIdx.x; i < 2 * kChannels; i += kThreads) kept[i] = constants[i];
    constants = kept;
  }
  read_silhouette(a, frame, quarter, copies);
#pragma unroll 1
  for (int band = 0; band < kBands; ++band) {
    first_layer<Arithmetic>(a, constants, quarter, band, copies, odd);
    pooled_layer<Arithmetic, 2, Strip>(a, constants, 4 * band, odd, even);
  }
  layer<Arithmetic, 3, Strip>(a, constants, even, odd);
  pooled_layer<Arithmetic, 4, Pair>(a, constants, 0, odd, even);
  layer<Arithmetic, 5, Pair>(a, constants, even, odd);
  last_layer<Arithmetic>(a, constants, frame, quarter, odd);
}

}  // namespace frame_network

inline int launch_frame_network(const FrameNetwork& a, void* stream) {
  using namespace frame_network;
  if (a.frames < 0 || a.frames > INT32_MAX / kQuarters || !(a.slope > 0.f)) return kUnsupported;
  if (a.pixels != kUint8 && a.pixels != kFloat16) return kUnsupported;
  const unsigned blocks = unsigned(a.frames) * kQuarters;
  if (a.type == kFloat16) {
    return launch(frame_network::frame_network<Fp16>, blocks, kThreads, Memory<Fp16>::kBytes, stream, a);
  }
  if (a.type == kInt8) {
    return launch(frame_network::frame_network<Int8>, blocks, kThreads, Memory<Int8>::kBytes, stream, a);
  }
  return kUnsupported;
}

}  // namespace gaitedge
