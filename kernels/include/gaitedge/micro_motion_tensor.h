// The temporal head's two convolutions on tensor cores: FP16 with sums in FP32, where C and S are
// multiples of 16. Without attention there is nothing to multiply, and the FP32 arithmetic serves.
//
// Layout      x and hidden of a tile in shared memory as FP16, rows 16 bytes longer than their channels:
//             rows are then an odd multiple of 16 bytes apart, so that the eight rows of load_matrices, and
//             the eight rows × four lanes of the epilogue, lie in 32 different banks.
//             A convolution over frames is a product whose row i is rows i, i+1, i+2 of the tile side by
//             side: a tap is only another row to load from.
// Tiling      Conv1d_1: [32 frames, 3C] · [3C, 2S], Conv1d_2: [32, S] · [S, C] and [32, 3S] · [3S, C]; a
//             warp has eight columns and all rows, so every weight is loaded once a tile, by one warp, and
//             needs no shared memory: B fragments come from global memory, 4 bytes a lane; the two loads
//             of a k step use whole sectors of 32 bytes. They go three or six k steps ahead, and the
//             first of a product are under way before the barrier that it waits at.
// Variants    Weights through shared memory with copy_async16: no load serves two warps, so it would
//             save nothing, and the paper's 82 kB a part do not fit beside the tile on compute capability
//             7.5. 16 bytes a lane with k permuted: a quarter of the loads; rows must then be 64 bytes
//             apart modulo 128 for the A fragments, which the epilogue's reads do not bear.
//             Two sequences a block would halve what is read of the weights from the second cache.
#pragma once

#include "gaitedge/micro_motion_tile.h"
#include "gaitedge/tensor_core.h"

namespace gaitedge {
namespace micro_motion {

// k steps of weights that are loaded at once, and lie in registers while the next are on their way. 3C/16
// and 3S/16 are multiples of three; Conv1d_2 has two products whose first steps wait at once.
constexpr int kAheadSqueeze = 6, kAheadExcite = 3;

// B fragments of k steps first .. first + Ahead - 1; zeros from `steps` on. `row`: this lane's.
template <int Ahead>
__device__ __forceinline__ void load_columns(uint32_t (&b)[Ahead][2], const half_t* row, int first,
                                             int steps) {
#pragma unroll
  for (int i = 0; i < Ahead; ++i) {
    const uint32_t* from = reinterpret_cast<const uint32_t*>(row + 16 * (first + i));
    const bool there = first + i < steps;
    b[i][0] = there ? __ldg(from) : 0;
    b[i][1] = there ? __ldg(from + 4) : 0;
  }
}

// c += the product of `steps` k steps. b: its first fragments, already loaded. row: this lane's weights.
// a: this lane's row of the first matrix, at the first tap; the next matrix is 16 rows, `stride` elements
// each, below it. A tap is `tap_steps` k steps, and the next one a row further.
template <int Matrices, int Ahead>
__device__ __forceinline__ void product(float (&c)[Matrices][4], uint32_t (&b)[Ahead][2], const half_t* row,
                                        int steps, const half_t* a, int stride, int tap_steps) {
  int within = 0;
  for (int first = 0; first < steps; first += Ahead) {
    uint32_t next[Ahead][2];
    load_columns(next, row, first + Ahead, steps);
#pragma unroll
    for (int i = 0; i < Ahead; ++i) {
      if (first + i < steps) {
#pragma unroll
        for (int m = 0; m < Matrices; ++m) {
          uint32_t fragment[4];
          load_matrices(fragment, a + 16 * m * stride);
          mma(c[m], fragment, b[i]);
        }
        a += 16;
        if (++within == tap_steps) {
          within = 0;
          a += stride - 16 * tap_steps;
        }
      }
    }
#pragma unroll
    for (int i = 0; i < Ahead; ++i) {
      b[i][0] = next[i][0];
      b[i][1] = next[i][1];
    }
  }
}

struct Tensor {
  using Stored = half_t;
  using Element = half_t;
  static constexpr int kPad = 8;   // elements
  static constexpr int kKept = 1;  // rows of pooled values that a sequence's sink keeps

  static bool takes(const MicroMotionWeights& w) {
    return w.type == kFloat16 && w.attention && w.channels % 16 == 0 && w.squeezed % 16 == 0;
  }
  static __host__ __device__ constexpr int x_stride(const MicroMotionWeights& w) { return w.channels + kPad; }
  static __host__ __device__ constexpr int hidden_stride(const MicroMotionWeights& w) {
    return count_of(w.templates) * w.squeezed + kPad;
  }

  template <class Source>
  static __device__ __forceinline__ void load(const MicroMotionWeights& w, half_t* x, int rows,
                                              Source source) {
    const int chunks = w.channels / 8;
    for (int i = threadIdx.x; i < rows * chunks; i += kThreads) {
      const int row = i / chunks, channel = i % chunks * 8;
      const half_t* from = source(row);
      copy_async16(x + row * x_stride(w) + channel, from ? from + channel : nullptr, from != nullptr);
    }
    copy_commit();
  }

  // This lane's row of the first matrix of `tile`.
  template <class Tile>
  static __device__ __forceinline__ const half_t* row_of(const half_t* tile, int stride) {
    static_assert(Tile::kMatrices == 1 || Tile::row(16) == Tile::row(0) + 16, "matrices lie 16 rows apart");
    const int lane = threadIdx.x % kWarp;
    return tile + Tile::row(lane % 16) * stride + lane / 16 * 8;
  }

  template <int Matrices>
  static __device__ __forceinline__ void clear(float (&c)[Matrices][4]) {
#pragma unroll
    for (int m = 0; m < Matrices; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) c[m][i] = 0.f;
    }
  }

  // Conv1d_1 of the MTBs in use and LeakyReLU, side by side in `hidden`. Waits for x first.
  template <class Tile>
  static __device__ __forceinline__ void squeeze(const MicroMotionWeights& w, int part, const Tile& tile,
                                                 const Room& room, const half_t* x, half_t* hidden) {
    const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
    const int columns = count_of(w.templates) * w.squeezed, depth = 3 * w.channels, steps = depth / 16;
    const auto weights_of = [&](int first) {  // eight columns are of one MTB: S is a multiple of 16
      const bool second = first >= w.squeezed || !(w.templates & 1);
      const half_t* weight = static_cast<const half_t*>(second ? w.squeeze[1] : w.squeeze[0]);
      const int channel = first % w.squeezed + g;
      return weight + (int64_t(part) * w.squeezed + channel) * depth + 2 * t;
    };
    int first = threadIdx.x / kWarp * 8;
    uint32_t b[kAheadSqueeze][2];
    if (first < columns) load_columns(b, weights_of(first), 0, steps);
    copy_wait<0>();
    __syncthreads();
    const half_t* a = row_of<Tile>(x, room.x_stride);
    while (first < columns) {
      float c[Tile::kMatrices][4];
      clear(c);
      product(c, b, weights_of(first), steps, a, room.x_stride, w.channels / 16);
      const int column = first + 2 * t;
      first += kWarps * 8;
      if (first < columns) load_columns(b, weights_of(first), 0, steps);
#pragma unroll
      for (int m = 0; m < Tile::kMatrices; ++m) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int row = Tile::row(16 * m + 8 * h + g);
          const bool there = tile.inside(row).has(row + 1);
          const uint32_t both =
              pack_half2(leaky_relu(c[m][2 * h], w.slope), leaky_relu(c[m][2 * h + 1], w.slope));
          *reinterpret_cast<uint32_t*>(hidden + row * room.hidden_stride + column) = there ? both : 0;
        }
      }
    }
  }

  // Conv1d_2, sigmoid, templates, and the sum of the MTBs: `sink(column, values)`. Values are as C's
  // fragments: columns `column` and the next of rows Tile::row(16m + lane / 4) and Tile::row(16m + lane / 4
  // + 8). Begins with a barrier.
  template <class Tile, class Sink>
  static __device__ __forceinline__ void excite(const MicroMotionWeights& w, int part, const Tile& tile,
                                                const Room& room, const half_t* x, const half_t* hidden,
                                                const Sink& sink) {
    constexpr int kMatrices = Tile::kMatrices;
    const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
    const int tap_steps = w.squeezed / 16;
    const bool one = w.templates & 1, two = w.templates & 2;
    const half_t* row1 =
        static_cast<const half_t*>(w.excite[0]) + int64_t(part) * w.channels * w.squeezed + 2 * t;
    const half_t* row2 =
        static_cast<const half_t*>(w.excite[1]) + int64_t(part) * w.channels * 3 * w.squeezed + 2 * t;
    uint32_t b1[kAheadExcite][2], b2[kAheadExcite][2];
    const auto load_first = [&](int column) {
      load_columns(b1, row1 + int64_t(column + g) * w.squeezed, 0, one ? tap_steps : 0);
      load_columns(b2, row2 + int64_t(column + g) * 3 * w.squeezed, 0, two ? 3 * tap_steps : 0);
    };
    const auto motion = [&](float2 both, float logit1, float logit2) {
      const float motion1 = one ? both.x * sigmoid<half_t>(logit1) : 0.f;
      return two ? motion1 + both.y * sigmoid<half_t>(logit2) : motion1;
    };
    int first = threadIdx.x / kWarp * 8;
    if (first < w.channels) load_first(first);
    __syncthreads();
    const half_t* a = row_of<Tile>(hidden, room.hidden_stride);
    while (first < w.channels) {
      float c1[kMatrices][4], c2[kMatrices][4];
      clear(c1);
      clear(c2);
      const int64_t channel = first + g;
      if (one) {  // MTB1 looks at its own frame, which is the row below
        const half_t* below = a + room.hidden_stride;
        product(c1, b1, row1 + channel * w.squeezed, tap_steps, below, room.hidden_stride, tap_steps);
      }
      if (two) {
        const half_t* beside = a + (one ? w.squeezed : 0);
        const half_t* row = row2 + channel * 3 * w.squeezed;
        product(c2, b2, row, 3 * tap_steps, beside, room.hidden_stride, tap_steps);
      }
      const int column = first + 2 * t;
      first += kWarps * 8;
      if (first < w.channels) load_first(first);  // they arrive during the epilogue
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int row = Tile::row(16 * m + 8 * h + g);
          const Range in = tile.inside(row);
          float2 v[5];
#pragma unroll
          for (int i = 0; i < 5; ++i) {
            v[i] = unpack_half2(*reinterpret_cast<const uint32_t*>(x + (row + i) * room.x_stride + column));
          }
          const float2 left = templates(v[0].x, v[1].x, v[2].x, v[3].x, v[4].x, row, in);
          const float2 right = templates(v[0].y, v[1].y, v[2].y, v[3].y, v[4].y, row, in);
          c1[m][2 * h] = motion(left, c1[m][2 * h], c2[m][2 * h]);
          c1[m][2 * h + 1] = motion(right, c1[m][2 * h + 1], c2[m][2 * h + 1]);
        }
      }
      sink(column, c1);
    }
  }
};

}  // namespace micro_motion
}  // namespace gaitedge
