// The temporal head one frame at a time: after every frame, what micro_motion.h gives for all so far.
//
// Maths       Frame t reaches no output but those of frames t-2, t-1 and t. So t-2 is settled when t comes,
//             and enters the pooled state for good; t-1 and t are made with zeros for the frames to come,
//             as the end of a sequence has them, and count in this frame's y alone:
//               pooled = TP(pooled, motion[t-2]);  y = FC(TP(pooled, motion[t-1], motion[t]))
//             A mean is kept as a sum and divided by t + 1 in y.
// Layout      State of each stream and part: the last four frames [4, C] as they came, pooled [C] in FP32,
//             and the number of frames. What a state holds that the number says is not there, it does not
//             read: seen 0 begins a walk over any bytes. It may be updated in place: a block reads all that
//             it needs of its streams' state before it writes any.
// Tiling      A block of 256 threads has one part of four streams: their 4 × 4 rows of hidden fill one
//             matrix of 16 rows, so the tensor cores take four streams at the price of one, and the code is
//             that of whole sequences. Outputs (three rows a stream) meet in shared memory, where a
//             thread pools one channel. FC takes the four vectors at once, over the same weights.
// Shared      With C 128, S 32, FP16: outputs 6.1 kB, tile 13.3 kB; FC's sums, 32.8 kB, in the tile's place.
// Cost        The paper's 16 parts a stream and frame: 2.4 M multiply-adds of MTBs (hidden 4 rows, outputs 3)
//             and 0.5 M of FC. Bytes: the weights, 2.4 MB in FP16, for each four streams, and 25 kB of
//             state in and as much out, 4 kB of features, 16 kB of y.
// Variants    Plain multiply-adds for FP16: 0.2 M a part are few enough, but 41 thousand weights would be
//             converted one by one. Hidden rows and MTB outputs in the state: a third of the arithmetic,
//             the same weights, which are what the launch waits for, and twice the state.
#pragma once

#include "gaitedge/micro_motion_plain.h"
#include "gaitedge/micro_motion_tensor.h"

namespace gaitedge {
namespace micro_motion {

// Keeps the outputs, [4 streams, 3, C] in shared memory. Those that are no frame's are never read.
struct KeepRows {
  static constexpr int kOutputs = StreamTile::kOutputs;
  float* outputs;
  int channels;

  __device__ __forceinline__ void operator()(int channel, int stream,
                                             const float (&values)[StreamTile::kGroupRows]) const {
#pragma unroll
    for (int i = 0; i < kOutputs; ++i) outputs[(stream * kOutputs + i) * channels + channel] = values[i];
  }

  __device__ __forceinline__ void operator()(int column,
                                             const float (&values)[StreamTile::kMatrices][4]) const {
    const int g = threadIdx.x % kWarp / 4;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int stream = g / 4 + 2 * h;
      if (g % 4 < kOutputs) {
        float* to = outputs + (stream * kOutputs + g % 4) * channels + column;
        *reinterpret_cast<float2*>(to) = make_float2(values[0][2 * h], values[0][2 * h + 1]);
      }
    }
  }
};

__host__ __device__ constexpr int kept_by_streams(const MicroMotionWeights& w) {
  return 16 + round_up(kGroups * StreamTile::kOutputs * w.channels * int(sizeof(float)), 16);
}

template <class Arithmetic>
__global__ void __launch_bounds__(kThreads, 2) streams(MicroMotionStream a) {
  using T = typename Arithmetic::Stored;
  using Element = typename Arithmetic::Element;
  GAITEDGE_SHARED(shared);
  const MicroMotionWeights& w = a.weights;
  const int kept = kept_by_streams(w), channels = w.channels;
  const Room room = room_of<Arithmetic, StreamTile>(w, kept);
  int* seen = reinterpret_cast<int*>(shared);
  float* outputs = reinterpret_cast<float*>(shared + 16);  // [4, 3, C]
  Element* x = reinterpret_cast<Element*>(shared + kept);
  Element* hidden = reinterpret_cast<Element*>(shared + room.hidden);

  const int part = blockIdx.x % w.parts, first = blockIdx.x / w.parts * kGroups;
  const int there = a.streams - first < kGroups ? a.streams - first : kGroups;
  const auto place = [&](int stream) { return int64_t(first + stream) * w.parts + part; };
  if (threadIdx.x < kGroups) {
    const int stream = threadIdx.x;
    const int before = stream < there ? a.seen[place(stream)] : -1;
    seen[stream] = stream < there && before < 0 ? 0 : before;
  }
  for (int i = threadIdx.x; i < StreamTile::kRows * room.hidden_stride; i += kThreads) {
    hidden[i] = from_float<Element>(0.f);
  }
  __syncthreads();
  const StreamTile tile{seen};
  Arithmetic::load(w, x, StreamTile::kRows, [&](int row) -> const T* {
    const int stream = row / kGroupStep, i = row % kGroupStep;
    if (!tile.inside(row).has(row)) return nullptr;
    if (i == 4) return static_cast<const T*>(a.features) + place(stream) * channels;
    return static_cast<const T*>(a.history) + (place(stream) * 4 + i) * channels;
  });
  if (w.attention) Arithmetic::squeeze(w, part, tile, room, x, hidden);
  Arithmetic::excite(w, part, tile, room, x, hidden, KeepRows{outputs, channels});
  __syncthreads();

  const Pool pool{w.pooling == kMean};
  for (int i = threadIdx.x; i < there * channels; i += kThreads) {
    const int stream = i / channels, c = i % channels, t = seen[stream];
    float* own = outputs + stream * StreamTile::kOutputs * channels + c;
    const int64_t at = place(stream) * channels + c;
    float total = t > 2 ? a.pooled[at] : pool.nothing();
    if (t > 1) total = pool(total, own[0]);
    a.pooled_after[at] = total;
    if (t > 0) total = pool(total, own[channels]);
    total = pool(total, own[2 * channels]);
    own[0] = pool.mean ? total / (t + 1) : total;  // what FC takes
  }
  for (int i = threadIdx.x; i < there * 4 * channels; i += kThreads) {
    const int stream = i / (4 * channels), row = i / channels % 4, c = i % channels;
    const float value = to_float(x[(stream * kGroupStep + row + 1) * room.x_stride + c]);
    static_cast<T*>(a.history_after)[(place(stream) * 4 + row) * channels + c] = from_float<T>(value);
  }
  if (int(threadIdx.x) < there) a.seen_after[place(threadIdx.x)] = seen[threadIdx.x] + 1;
  __syncthreads();
  finish<T, kGroups>(w, part, outputs, StreamTile::kOutputs * channels, reinterpret_cast<float*>(x), a.y,
                     a.y_type, place(0), there);
}

template <class Arithmetic>
constexpr bool kStreamsFit =
    room_of<Arithmetic, StreamTile>(widest_head(), kept_by_streams(widest_head())).total <= kSmallestDevice;
static_assert(kStreamsFit<Plain<float>> && kStreamsFit<Plain<half_t>> && kStreamsFit<Tensor>);

template <class Arithmetic>
int launch_streams(const MicroMotionStream& a, void* stream) {
  const int bytes = room_of<Arithmetic, StreamTile>(a.weights, kept_by_streams(a.weights)).total;
  if (!fits(bytes)) return kUnsupported;
  const unsigned blocks = unsigned(ceil_div(a.streams, kGroups)) * a.weights.parts;
  return launch(streams<Arithmetic>, blocks, kThreads, bytes, stream, a);
}

}  // namespace micro_motion

inline int launch_micro_motion_stream(const MicroMotionStream& a, void* stream) {
  if (!micro_motion::possible(a.weights, a.y_type)) return kUnsupported;
  if (a.streams < 0 || int64_t(a.streams) * a.weights.parts > INT32_MAX / 2) return kUnsupported;
  using namespace micro_motion;
  if (Tensor::takes(a.weights)) return launch_streams<Tensor>(a, stream);
  if (a.weights.type == kFloat16) return launch_streams<Plain<half_t>>(a, stream);
  return launch_streams<Plain<float>>(a, stream);
}

}  // namespace gaitedge
