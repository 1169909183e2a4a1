// What all forms of the temporal head share: the rows of a tile in shared memory, templates, pooling, FC.
//
// A tile has rows of part features and rows of the attentions' middle ("hidden"), both one frame a row:
// row i of x is one frame before row i of hidden, and two before row i of the output. So
//
//   hidden row i   Conv1d_1 over x rows i, i+1, i+2
//   output row i   Conv1d_2 over hidden rows i, i+1, i+2 (MTB2) or i+1 alone (MTB1), and the templates
//                  over x rows i .. i+4 (MTB2) or i+1 .. i+3 (MTB1)
//
// and the zeros that every convolution and average sees around a sequence are rows of zeros.
#pragma once

#include "gaitedge/arguments.h"
#include "gaitedge/platform.h"

namespace gaitedge {
namespace micro_motion {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kGroups = 4;     // the FP32 arithmetic takes a tile's rows in so many groups,
constexpr int kGroupStep = 8;  // which begin so many rows apart
constexpr int kVector = 4;     // numbers that the FP32 arithmetic loads at once

// Rows of a tile that are frames: begin, and one past the last.
struct Range {
  int begin, end;
  __device__ __forceinline__ bool has(int row) const { return row >= begin && row < end; }
};

// 30 frames of one sequence, with their halo: x row 0 is two frames before the first output.
struct SequenceTile {
  static constexpr int kOutputs = 30;
  static constexpr int kFrames = kOutputs + 4;  // rows of x that are read; below them lie zeros
  static constexpr int kRows = 36;              // of x and hidden: 32 rows of output look so far
  static constexpr int kGroupRows = 8;          // rows of output in a group
  static constexpr int kMatrices = 2;           // of 16 rows, for the tensor cores
  static constexpr int kSequences = 1;
  Range frames;
  // The row of the tile that row `r` of the matrices is.
  static __host__ __device__ constexpr int row(int r) { return r; }
  // The rows of x that are frames of the sequence in which `row` lies.
  __device__ __forceinline__ Range inside(int) const { return frames; }
  __device__ __forceinline__ bool output(int row) const { return row < kOutputs && frames.has(row + 2); }
};

// The last five frames of each of four streams, eight rows apart: outputs are the third last frame,
// which is settled now, and the last two, which later frames will change.
struct StreamTile {
  static constexpr int kOutputs = 3;
  static constexpr int kRows = 32;
  static constexpr int kGroupRows = 4;
  static constexpr int kMatrices = 1;
  static constexpr int kSequences = kGroups;
  const int* seen;  // [4] in shared memory: frames before this one; -1 where there is no stream
  static __host__ __device__ constexpr int row(int r) { return r / 4 * kGroupStep + r % 4; }
  __device__ __forceinline__ Range inside(int row) const {
    const int stream = row / kGroupStep, first = stream * kGroupStep;
    return {first + (seen[stream] < 4 ? 4 - seen[stream] : 0), first + 5};
  }
};

// MTBs in use, 0 to 2, of the bits of MicroMotionWeights::templates.
__host__ __device__ constexpr int count_of(int templates) { return (templates & 1) + (templates >> 1 & 1); }

// 1 / (1 + e^-x), for FP16 with the GPU's own exponential, exact to two units of FP32 or so.
template <class T>
__device__ __forceinline__ float sigmoid(float x) {
#if defined(__CUDACC__)
  if constexpr (sizeof(T) == 2) return __fdividef(1.f, 1.f + __expf(-x));
#endif
  return 1.f / (1.f + expf(-x));
}

// TempFunc (Eq. 5) around x row `row` + 2, whose neighbours are a, b, [c], d, e: of window 3 in x, of
// window 5 in y. The average counts the zeros outside, the maximum does not.
__device__ __forceinline__ float2 templates(float a, float b, float c, float d, float e, int row, Range in) {
  const float sum3 = b + c + d, sum5 = a + sum3 + e;
  float most = c;
  if (in.has(row + 1)) most = maximum(most, b);
  if (in.has(row + 3)) most = maximum(most, d);
  const float most3 = most;
  if (in.has(row)) most = maximum(most, a);
  if (in.has(row + 4)) most = maximum(most, e);
  return make_float2(sum3 * (1.f / 3.f) + most3, sum5 * (1.f / 5.f) + most);
}

// TP (Eq. 9 and 11) as it goes; a mean is a sum until the end.
struct Pool {
  bool mean;
  __device__ __forceinline__ float nothing() const { return mean ? 0.f : -INFINITY; }
  __device__ __forceinline__ float operator()(float a, float b) const { return mean ? a + b : maximum(a, b); }
};

// 16 bytes of weights of type T as floats, or one weight.
template <class T, int Values>
__device__ __forceinline__ void load_weights(float (&to)[Values], const T* from) {
  if constexpr (Values == 1) {
    to[0] = to_float(*from);
  } else {
    const uint4 bits = __ldg(reinterpret_cast<const uint4*>(from));
#pragma unroll
    for (int i = 0; i < Values; ++i) to[i] = to_float(reinterpret_cast<const T*>(&bits)[i]);
  }
}

// FC (Eq. 12) of `Count` vectors v, `v_step` apart in shared memory, for each q under `there`:
// y[q · y_step + d] = Σ v[q · v_step + c] · fc[c, d]. A warp reads whole rows of fc, `Values` columns a
// lane; the warps share the rows out and meet in `partial` (partial_floats). All threads call it, behind a
// barrier.
template <class T, int Count, int Values>
__device__ __forceinline__ void multiply(const T* fc, int channels, int dim, const float* v, int v_step,
                                         float* partial, float* y, int64_t y_step, int there) {
  constexpr int kColumns = kWarp * Values;
  [[maybe_unused]] constexpr int kAtOnce = Count == 1 ? 4 : 2;  // rows whose loads are under way together
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  for (int first = 0; first < dim; first += kColumns) {
    const int column = first + lane * Values;
    float sum[Count][Values];
#pragma unroll
    for (int q = 0; q < Count; ++q) {
#pragma unroll
      for (int i = 0; i < Values; ++i) sum[q][i] = 0.f;
    }
    if (column < dim) {
#pragma unroll kAtOnce
      for (int c = warp; c < channels; c += kWarps) {
        float weight[Values];
        load_weights<T, Values>(weight, fc + int64_t(c) * dim + column);
#pragma unroll
        for (int q = 0; q < Count; ++q) {
#pragma unroll
          for (int i = 0; i < Values; ++i) sum[q][i] += v[q * v_step + c] * weight[i];
        }
      }
    }
#pragma unroll
    for (int q = 0; q < Count; ++q) {
#pragma unroll
      for (int i = 0; i < Values; ++i) partial[((warp * Count + q) * Values + i) * kWarp + lane] = sum[q][i];
    }
    __syncthreads();
    for (int j = threadIdx.x; j < Count * kColumns; j += kThreads) {
      const int q = j / kColumns, d = first + j % kWarp * Values + j / kWarp % Values;
      float total = 0.f;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) total += partial[w * Count * kColumns + j];
      if (d < dim && q < there) y[q * y_step + d] = total;
    }
    __syncthreads();
  }
}

template <class T, int Count>
__host__ __device__ constexpr int partial_floats() {
  return kWarps * Count * kWarp * int(16 / sizeof(T));
}

// The end of a launch: `Count` vectors v, `v_step` apart in shared memory, go through FC where there is one
// to rows row, row + parts, ... of y.
template <class T, int Count>
__device__ __forceinline__ void finish(const MicroMotionWeights& w, int part, const float* v, int v_step,
                                       float* partial, void* y, int y_type, int64_t row, int there) {
  const int channels = w.channels;
  if (w.fc) {
    constexpr int kValues = 16 / sizeof(T);
    const T* fc = static_cast<const T*>(w.fc) + int64_t(part) * channels * w.dim;
    float* to = static_cast<float*>(y) + row * w.dim;
    const int64_t step = int64_t(w.parts) * w.dim;
    if (w.dim % kValues == 0) {
      multiply<T, Count, kValues>(fc, channels, w.dim, v, v_step, partial, to, step, there);
    } else {
      multiply<T, Count, 1>(fc, channels, w.dim, v, v_step, partial, to, step, there);
    }
    return;
  }
  for (int i = threadIdx.x; i < there * channels; i += kThreads) {
    const int q = i / channels, c = i % channels;
    const int64_t at = (row + int64_t(q) * w.parts) * channels + c;
    if (y_type == kFloat16) {
      static_cast<half_t*>(y)[at] = from_float<half_t>(v[q * v_step + c]);
    } else {
      static_cast<float*>(y)[at] = v[q * v_step + c];
    }
  }
}

// Where things lie in shared memory, in bytes: `pooled` [kept rows, C] of FP32 and what else the kernel
// keeps, then the tile; FC's partial sums take the tile's place.
struct Room {
  int x_stride, hidden_stride;  // elements from a row to the next
  int hidden, total;
};

template <class Arithmetic, class Tile>
__host__ __device__ constexpr Room room_of(const MicroMotionWeights& w, int kept) {
  using Element = typename Arithmetic::Element;
  Room room{};
  room.x_stride = Arithmetic::x_stride(w);
  room.hidden_stride = w.attention ? Arithmetic::hidden_stride(w) : 0;
  room.hidden = kept + round_up(Tile::kRows * room.x_stride * int(sizeof(Element)), 16);
  const int tile = room.hidden + round_up(Tile::kRows * room.hidden_stride * int(sizeof(Element)), 16);
  const int partial =
      kept + int(sizeof(float)) * partial_floats<typename Arithmetic::Stored, Tile::kSequences>();
  room.total = w.fc && partial > tile ? partial : tile;
  return room;
}

// The widest head that every device must take: OU-MVLP's network, in the 64 KB of compute capability 7.5.
constexpr int kSmallestDevice = 64 * 1024;
constexpr MicroMotionWeights widest_head() {
  MicroMotionWeights w{};
  w.channels = 256;
  w.squeezed = 64;
  w.templates = 3;
  w.attention = 1;
  return w;
}

// Whether a head of this kind has kernels at all.
inline bool possible(const MicroMotionWeights& w, int y_type) {
  if (w.type != kFloat32 && w.type != kFloat16) return false;
  if (w.parts < 1 || w.channels < 1 || w.channels > 8192 || w.templates < 1 || w.templates > 3) return false;
  if (w.pooling != kMaximum && w.pooling != kMean) return false;
  if (w.attention != 0 && w.attention != 1) return false;
  if (w.attention && (w.squeezed < 1 || w.squeezed > 8192)) return false;
  for (int i = 0; i < 2; ++i) {
    const bool used = w.attention && (w.templates >> i & 1);
    if (used && (!w.squeeze[i] || !w.excite[i])) return false;
  }
  if (w.fc) return w.dim >= 1 && y_type == kFloat32;
  return y_type == kFloat32 || y_type == kFloat16;
}

// Whether a block of this device may have so much shared memory.
inline bool fits(int bytes) {
  return size_t(bytes) <= kSharedWithoutAsking || size_t(bytes) <= shared_limit();
}

}  // namespace micro_motion
}  // namespace gaitedge
