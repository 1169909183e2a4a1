// The temporal head of all parts in one launch: MTBs (Eq. 4 to 8, Tab. 2), TP (Eq. 9, 11) and FC (Eq. 12).
//
// Maths       For each part and each MTB of window 2i + 1, i = 1, 2, over the frames of one sequence:
//               hidden = LeakyReLU(Conv1d_1(x)), C → S channels, 3 taps
//               motion = sigmoid(Conv1d_2(hidden)) · (average + maximum of x over the window)
//             where Conv1d_2 has one tap in MTB1 and three in MTB2; y = FC(TP(motion_1 + motion_2)).
//             Outside the sequence convolutions and averages see zeros (and count them), maxima nothing.
//             FP16: products of FP16 with sums in FP32; hidden is rounded to FP16 as in an FP16 graph; what
//             follows stays FP32 to the end.
// Layout      features [frames of all sequences, parts, C]; weights as the model has them, but squeeze as
//             [parts, S, 3, C] and excite as [parts, C, k, S]: all k of a product side by side.
// Tiling      A block of 256 threads has one part of one sequence and goes over it by tiles of 30 frames:
//             32 rows of hidden with their halo, so two matrices of 16 rows, from 34 rows of x. Features,
//             hidden and pooled values stay in shared memory; nothing but y is written. Blocks beside each
//             other are the parts of one sequence, which read the same rows of the features. A sequence's
//             length is its block's own business: a ragged batch costs what its tiles do.
// Shared      With C 128, S 32, FP16: x 9.8 kB, hidden 5.2 kB, pooled 0.5 kB. FP32: 18.4, 9.2 and 2 kB.
// Cost        The paper's 16 parts, 30 frames: 0.66 M multiply-adds a frame, 20 M a sequence, of which the
//             FC has 0.5 M. FP16 bytes: 123 kB of features and 2.4 MB of weights once, 16 kB out; so alone a
//             sequence is bound by how fast 16 blocks read 147 kB each, in a batch they come out of the
//             second cache.
// Variants    A part's channels over several blocks: x and hidden again in each, or a second launch. Two
//             sequences a block: half the weights' traffic in a batch, half the blocks alone. The windows'
//             sums and maxima slid along the frames: each thread's rows are eight apart, so no.
#pragma once

#include "gaitedge/micro_motion_plain.h"
#include "gaitedge/micro_motion_tensor.h"

namespace gaitedge {
namespace micro_motion {

// Pools a tile's rows into pooled [kKept, C] in shared memory. The same thread has the same values in
// every tile.
struct PoolRows {
  SequenceTile tile;
  Pool pool;
  float* pooled;
  int channels;

  __device__ __forceinline__ void operator()(int channel, int group,
                                             const float (&values)[SequenceTile::kGroupRows]) const {
    float total = pooled[group * channels + channel];
#pragma unroll
    for (int i = 0; i < SequenceTile::kGroupRows; ++i) {
      if (tile.output(group * kGroupStep + i)) total = pool(total, values[i]);
    }
    pooled[group * channels + channel] = total;
  }

  __device__ __forceinline__ void operator()(int column,
                                             const float (&values)[SequenceTile::kMatrices][4]) const {
    const int g = threadIdx.x % kWarp / 4;
    float left = pool.nothing(), right = pool.nothing();
#pragma unroll
    for (int i = 0; i < 2 * SequenceTile::kMatrices; ++i) {
      if (tile.output(8 * i + g)) {
        left = pool(left, values[i / 2][i % 2 * 2]);
        right = pool(right, values[i / 2][i % 2 * 2 + 1]);
      }
    }
#pragma unroll
    for (int mask = 4; mask < kWarp; mask *= 2) {
      left = pool(left, __shfl_xor_sync(kAllLanes, left, mask));
      right = pool(right, __shfl_xor_sync(kAllLanes, right, mask));
    }
    if (g == 0) {
      pooled[column] = pool(pooled[column], left);
      pooled[column + 1] = pool(pooled[column + 1], right);
    }
  }
};

template <class Arithmetic>
__host__ __device__ constexpr int kept_by_sequences(const MicroMotionWeights& w) {
  return round_up(Arithmetic::kKept * w.channels * int(sizeof(float)), 16);
}

template <class Arithmetic>
__global__ void __launch_bounds__(kThreads, 2) sequences(MicroMotion a) {
  using T = typename Arithmetic::Stored;
  using Element = typename Arithmetic::Element;
  GAITEDGE_SHARED(shared);
  const MicroMotionWeights& w = a.weights;
  const int kept = kept_by_sequences<Arithmetic>(w), channels = w.channels;
  const Room room = room_of<Arithmetic, SequenceTile>(w, kept);
  float* pooled = reinterpret_cast<float*>(shared);
  Element* x = reinterpret_cast<Element*>(shared + kept);
  Element* hidden = reinterpret_cast<Element*>(shared + room.hidden);

  const int part = blockIdx.x % w.parts, sequence = blockIdx.x / w.parts;
  const int64_t start = a.offsets ? a.offsets[sequence] : int64_t(sequence) * a.frames;
  const int frames = a.offsets ? a.offsets[sequence + 1] - a.offsets[sequence] : a.frames;
  const T* features = static_cast<const T*>(a.features) + (start * w.parts + part) * channels;
  const int64_t step = int64_t(w.parts) * channels;

  const Pool pool{w.pooling == kMean};
  for (int i = threadIdx.x; i < Arithmetic::kKept * channels; i += kThreads) pooled[i] = pool.nothing();
  // The last rows of hidden are no frame's: only rows that are no output look at them.
  for (int i = threadIdx.x; i < SequenceTile::kRows * room.hidden_stride; i += kThreads) {
    hidden[i] = from_float<Element>(0.f);
  }
  __syncthreads();
  for (int first = 0; first < frames; first += SequenceTile::kOutputs) {
    const int before = first < 2 ? 2 - first : 0, after = frames - first + 2;
    const SequenceTile tile{{before, after < SequenceTile::kFrames ? after : SequenceTile::kFrames}};
    Arithmetic::load(w, x, SequenceTile::kRows, [&](int row) {
      return tile.frames.has(row) ? features + (first - 2 + row) * step : nullptr;
    });
    if (w.attention) Arithmetic::squeeze(w, part, tile, room, x, hidden);
    Arithmetic::excite(w, part, tile, room, x, hidden, PoolRows{tile, pool, pooled, channels});
    __syncthreads();
  }
  for (int c = threadIdx.x; c < channels; c += kThreads) {
    float total = pooled[c];
#pragma unroll
    for (int i = 1; i < Arithmetic::kKept; ++i) total = pool(total, pooled[i * channels + c]);
    pooled[c] = pool.mean ? total / frames : total;
  }
  __syncthreads();
  const int64_t row = int64_t(sequence) * w.parts + part;
  finish<T, 1>(w, part, pooled, channels, reinterpret_cast<float*>(x), a.y, a.y_type, row, 1);
}

template <class Arithmetic>
constexpr bool kSequencesFit =
    room_of<Arithmetic, SequenceTile>(widest_head(), kept_by_sequences<Arithmetic>(widest_head())).total <=
    kSmallestDevice;
static_assert(kSequencesFit<Plain<float>> && kSequencesFit<Plain<half_t>> && kSequencesFit<Tensor>);

template <class Arithmetic>
int launch_sequences(const MicroMotion& a, void* stream) {
  const int kept = kept_by_sequences<Arithmetic>(a.weights);
  const int bytes = room_of<Arithmetic, SequenceTile>(a.weights, kept).total;
  if (!fits(bytes)) return kUnsupported;
  return launch(sequences<Arithmetic>, unsigned(a.batch) * a.weights.parts, kThreads, bytes, stream, a);
}

}  // namespace micro_motion

inline int launch_micro_motion(const MicroMotion& a, void* stream) {
  if (!micro_motion::possible(a.weights, a.y_type)) return kUnsupported;
  if (a.batch < 0 || int64_t(a.batch) * a.weights.parts > INT32_MAX) return kUnsupported;
  if (!a.offsets && a.frames < 1) return kUnsupported;
  using namespace micro_motion;
  if (Tensor::takes(a.weights)) return launch_sequences<Tensor>(a, stream);
  if (a.weights.type == kFloat16) return launch_sequences<Plain<half_t>>(a, stream);
  return launch_sequences<Plain<float>>(a, stream);
}

}  // namespace gaitedge
