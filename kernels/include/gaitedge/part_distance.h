// The nearest of a gallery by the mean over parts of the Euclidean distance (Sec. 3.4, "Testing"):
//   d(p, g) = 1/parts · Σ_part √( Σ_i (p[part, i] - g[part, i])² ),
// and of every probe the k entries with the smallest (d, number of the entry); NaN after +Inf.
//
// Layout      probes [P, parts, dim] FP32, gallery [G, parts, dim] FP32 or FP16; differences, squares and
//             sums in FP32, so that an entry's own copy is at 0. distance and index [P, k].
// Tiling      A block takes a tile of probes (8, or 1 where there is one) and a chunk of the gallery; a warp
//             takes 4 entries of it at a time (2 for one probe), its lanes four features each: 16 bytes of
//             FP32, 8 of FP16; one each where rows are not fours. A read of the gallery serves all probes
//             of the tile, a read of the probes, which stay in L1, all 4 entries. Blocks that run side by
//             side share a chunk, not a tile: more probes than 8 find it in L2.
//             A part's 8×4 sums are added up across the lanes by handing on halves: 31 shuffles leave each
//             lane with one pair's sum, whose root it adds to that pair's distance.
// Top-k       A key is the distance's bits, which are in order for what is not negative, over the entry's
//             number: all differ, so the result depends on no order of blocks. A warp holds the smallest 64
//             of one probe, two a lane, and takes in up to 32 new ones by a bitonic sort and merge, unless
//             none is among the first k: after the first entries that is the rule.
//             Blocks leave their k keys in the workspace, [probe, rank, chunk]; the last one of a tile
//             (its ticket says so) takes in all firsts, then all seconds, until none is needed.
// Ticket      A counter a tile. A launch could not tell what lay there before from a count under way, so
//             they must be 0 at first; every launch leaves them so. They have the first kTicketBytes of the
//             workspace to themselves, whatever the sizes of the next launch.
// Bytes       The gallery once for each 8 probes, from L2 where it is there: 16 kB an entry of 16×256 in
//             FP32, 8 kB in FP16. Operations: 2 · parts · dim a pair, in FP32. One probe is a matter of
//             memory; eight are on the edge.
// Variants    |p|² + |g|² - 2 p·g on the tensor cores: near pairs, which decide, would lose their digits.
//             Probes in shared memory: a barrier for each part, where L1 holds the same 8 kB.
//             One atomic list a probe: every block would wait for it.
#pragma once

#include <cstring>

#include "gaitedge/arguments.h"
#include "gaitedge/platform.h"

namespace gaitedge {
namespace part_distance {

constexpr int kKept = 2 * kWarp;  // the most neighbours that can be asked for
constexpr int kBlocks = 512;      // that a launch aims at
constexpr int kTickets = kTicketBytes / 4;  // where there are more tiles, the gallery is not cut into chunks
constexpr int kLargest = 1 << 26;  // features of an entry: 32 entries' are still counted by an int
constexpr int kAtOnce = 4;  // keys that a lane of a tile's last block reads at once
constexpr uint64_t kNone = ~uint64_t(0);

// How a block works: its probes, the entries that its warps take at a time, and how many blocks a
// multiprocessor has registers for.
template <int kProbes_, int kWarps_, int kEntries_, int kResident_>
struct Form {
  static constexpr int kResident = kResident_;
  static constexpr int kProbes = kProbes_, kWarps = kWarps_, kEntries = kEntries_;
  static constexpr int kThreads = kWarps * kWarp, kPass = kWarps * kEntries, kPairs = kProbes * kEntries;
  static constexpr size_t kShared = (2 * kProbes * kWarp + 1) * sizeof(uint64_t);
  static_assert(kPass <= kWarp && kPairs <= kWarp && kProbes <= kWarps, "see take_in and distances");
};
using One = Form<1, 4, 2, 6>;
using Eight = Form<8, 8, 4, 2>;

// The gallery's cut: `tiles` of probes times `chunks` of `entries`, a multiple of the form's pass.
struct Cut {
  int tiles, chunks, entries;
};

template <class F>
__host__ __device__ inline Cut cut(const PartDistance& a) {
  const int tiles = ceil_div(a.probe_count, F::kProbes);
  const int most = tiles > kTickets ? 1 : kBlocks / tiles;
  const int passes = a.entries / F::kPass + (a.entries % F::kPass != 0);
  const int each = passes > most ? ceil_div(passes, most) : 1;
  return {tiles, passes > each ? ceil_div(passes, each) : 1, each * F::kPass};
}

// A key of the distance; NaN of either sign is the largest but kNone.
__device__ __forceinline__ uint64_t make_key(float distance, int entry) {
  uint32_t bits;
  memcpy(&bits, &distance, sizeof bits);
  return uint64_t(distance != distance ? 0x7fffffffu : bits) << 32 | uint32_t(entry);
}

__device__ __forceinline__ uint64_t smaller(uint64_t a, uint64_t b) { return a < b ? a : b; }
__device__ __forceinline__ uint64_t larger(uint64_t a, uint64_t b) { return a < b ? b : a; }

// The smallest keys so far, ascending: number `lane` and number 32 + `lane`.
struct List {
  uint64_t low = kNone, high = kNone;
};

// Take in one key a lane, of which the first `k` of the list may need some.
__device__ __forceinline__ void take_in(List& list, uint64_t key, int k, int lane) {
  const uint64_t last = __shfl_sync(kAllLanes, k <= kWarp ? list.low : list.high, (k - 1) % kWarp);
  if (!__any_sync(kAllLanes, key < last)) return;
#pragma unroll
  for (int size = 2; size <= kWarp; size *= 2) {  // descending
#pragma unroll
    for (int stride = size / 2; stride > 0; stride /= 2) {
      const uint64_t other = __shfl_xor_sync(kAllLanes, key, stride);
      const bool first = (lane & stride) == 0, ascending = (lane & size) != 0;
      key = first == ascending ? smaller(key, other) : larger(key, other);
    }
  }
  // The list ascends and the keys descend: what is left of the two is bitonic, and merges in six steps.
  const uint64_t high = smaller(list.high, key);
  list.high = larger(list.low, high);
  list.low = smaller(list.low, high);
#pragma unroll
  for (int stride = kWarp / 2; stride > 0; stride /= 2) {
    const uint64_t low = __shfl_xor_sync(kAllLanes, list.low, stride);
    const uint64_t more = __shfl_xor_sync(kAllLanes, list.high, stride);
    const bool first = (lane & stride) == 0;
    list.low = first ? smaller(list.low, low) : larger(list.low, low);
    list.high = first ? smaller(list.high, more) : larger(list.high, more);
  }
}

// Four features, at a multiple of as many; or a single one.
template <class T>
__device__ __forceinline__ void read(float (&to)[4], const T* row) {
  if constexpr (sizeof(T) == 4) {
    const float4 values = *reinterpret_cast<const float4*>(row);
    to[0] = values.x;
    to[1] = values.y;
    to[2] = values.z;
    to[3] = values.w;
  } else {
    const uint2 bits = *reinterpret_cast<const uint2*>(row);
    const float2 low = unpack_half2(bits.x), high = unpack_half2(bits.y);
    to[0] = low.x;
    to[1] = low.y;
    to[2] = high.x;
    to[3] = high.y;
  }
}
template <class T>
__device__ __forceinline__ void read(float (&to)[1], const T* row) {
  to[0] = to_float(*row);
}

// The sums over all lanes of N values each, N a power of two: the result is value lane · N / 32.
// Steps by recursion: nvcc does not unroll a loop over `kCount` and `kMask`, and values with an index that
// is no constant would lie in local memory.
template <int N, int kCount = N / 2, int kMask = kWarp / 2>
__device__ __forceinline__ float total(float (&values)[N], int lane) {
  if constexpr (kCount == 0) {
    values[0] += __shfl_xor_sync(kAllLanes, values[0], kMask);
  } else {
    const bool upper = (lane & kMask) != 0;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float kept = upper ? values[kCount + i] : values[i];
      const float given = upper ? values[i] : values[kCount + i];
      values[i] = kept + __shfl_xor_sync(kAllLanes, given, kMask);
    }
  }
  if constexpr (kMask > 1) total<N, kCount / 2, kMask / 2>(values, lane);
  return values[0];
}

// The distance of the pair that is this lane's: probe lane · kPairs / 32 / kEntries of the tile, and of the
// entries from `entry` on the one that the remainder is. Past the last probe or entry it is the last one's.
// kWidth: features that a lane reads at once.
template <class F, int kWidth, class T>
__device__ __forceinline__ float distances(const PartDistance& a, int probe, int entry, int lane) {
  [[maybe_unused]] constexpr int kAhead = F::kProbes == 1 ? 2 : 1;  // turns whose reads go together
  const int size = a.parts * a.dim;
  entry = entry < a.entries ? entry : a.entries - 1;
  const int last_probe = a.probe_count - 1 - probe, last_entry = a.entries - 1 - entry;
  const float* probes = a.probes + int64_t(probe) * size;
  const T* entries = static_cast<const T*>(a.gallery) + int64_t(entry) * size;
  float distance = 0.f;
  for (int part = 0; part < a.parts; ++part) {
    float sums[F::kPairs] = {};
#pragma unroll kAhead
    for (int first = kWidth * lane; first < a.dim; first += kWidth * kWarp) {
      float theirs[F::kEntries][kWidth];
      const T* entry_row = entries + first;
#pragma unroll
      for (int i = 0; i < F::kEntries; ++i) {
        read(theirs[i], entry_row);
        entry_row += i < last_entry ? size : 0;
      }
      const float* probe_row = probes + first;
#pragma unroll
      for (int i = 0; i < F::kProbes; ++i) {
        float ours[kWidth];
        read(ours, probe_row);
        probe_row += i < last_probe ? size : 0;
#pragma unroll
        for (int j = 0; j < F::kEntries; ++j) {
#pragma unroll
          for (int n = 0; n < kWidth; ++n) {
            const float difference = ours[n] - theirs[j][n];
            sums[i * F::kEntries + j] = fmaf(difference, difference, sums[i * F::kEntries + j]);
          }
        }
      }
    }
    distance += sqrtf(total(sums, lane));
    probes += a.dim;
    entries += a.dim;
  }
  return distance / a.parts;
}

// What a warp has found for a probe: the answer, with -1 and +Inf where there is no more.
__device__ __forceinline__ void answer(const PartDistance& a, const List& list, int probe, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int rank = half * kWarp + lane;
    if (rank >= a.k) continue;
    const uint64_t key = half ? list.high : list.low;
    const uint32_t bits = key == kNone ? 0x7f800000u : uint32_t(key >> 32);
    float distance;  // not straight to its place, of which nvcc would then write one byte after the other
    memcpy(&distance, &bits, sizeof bits);
    a.distance[int64_t(probe) * a.k + rank] = distance;
    a.index[int64_t(probe) * a.k + rank] = key == kNone ? -1 : int32_t(uint32_t(key));
  }
}

template <class F, class T>
__global__ void __launch_bounds__(F::kThreads, F::kResident) nearest(PartDistance a) {
  GAITEDGE_SHARED(shared);
  uint64_t* const found = reinterpret_cast<uint64_t*>(shared);  // [2, kProbes, 32] keys of a pass
  int* const is_last = reinterpret_cast<int*>(found + 2 * F::kProbes * kWarp);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const Cut grid = cut<F>(a);
  const int tile = int(blockIdx.x % grid.tiles), chunk = int(blockIdx.x / grid.tiles);
  const int probe = tile * F::kProbes, pair = lane * F::kPairs / kWarp;
  const int64_t start = int64_t(chunk) * grid.entries;
  const int64_t end = start + grid.entries < a.entries ? start + grid.entries : a.entries;
  const bool has_probe = warp < F::kProbes && probe + warp < a.probe_count;  // whose list this warp keeps
  List list;

  int turn = 0;  // of two halves of `found`: while one's keys are taken in, the next go to the other
  for (int64_t first = start; first < end; first += F::kPass, turn ^= 1) {
    const int entry = int(first) + warp * F::kEntries;
    const float distance = a.dim % 4 == 0 ? distances<F, 4, T>(a, probe, entry, lane)
                                          : distances<F, 1, T>(a, probe, entry, lane);
    uint64_t* const keys = found + turn * F::kProbes * kWarp;
    const int mine = entry + pair % F::kEntries;
    if (lane % (kWarp / F::kPairs) == 0) {
      const int place = pair / F::kEntries * kWarp + warp * F::kEntries + pair % F::kEntries;
      keys[place] = mine < end ? make_key(distance, mine) : kNone;
    }
    __syncthreads();
    if (has_probe) take_in(list, lane < F::kPass ? keys[warp * kWarp + lane] : kNone, a.k, lane);
  }
  if (grid.chunks == 1) {
    if (has_probe) answer(a, list, probe + warp, lane);
    return;
  }

  int* const ticket = static_cast<int*>(a.workspace) + tile;
  uint64_t* const left = reinterpret_cast<uint64_t*>(static_cast<int*>(a.workspace) + kTickets) +
                         int64_t(probe + warp) * a.k * grid.chunks;  // [k, chunks] of this warp's probe
  if (has_probe) {
    if (lane < a.k) left[int64_t(lane) * grid.chunks + chunk] = list.low;
    if (kWarp + lane < a.k) left[int64_t(kWarp + lane) * grid.chunks + chunk] = list.high;
  }
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) *is_last = atomicAdd(ticket, 1) == grid.chunks - 1;
  __syncthreads();
  if (!*is_last) return;
  if (threadIdx.x == 0) *ticket = 0;
  if (!has_probe) return;
  __threadfence();
  List all;
  for (int rank = 0; rank < a.k; ++rank) {
    const uint64_t last = __shfl_sync(kAllLanes, a.k <= kWarp ? all.low : all.high, (a.k - 1) % kWarp);
    bool needed = false;
    // Volatile: not what L1 may have of it.
    const volatile uint64_t* const row = left + int64_t(rank) * grid.chunks;
    for (int first = 0; first < grid.chunks; first += kAtOnce * kWarp) {
      uint64_t keys[kAtOnce];  // all on their way before the first is looked at
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int from = first + i * kWarp + lane;
        keys[i] = from < grid.chunks ? row[from] : kNone;
      }
#pragma unroll 1
      for (int i = 0; i < kAtOnce && first + i * kWarp < grid.chunks; ++i) {
        needed |= keys[0] < last;
        take_in(all, keys[0], a.k, lane);
#pragma unroll
        for (int j = 1; j < kAtOnce; ++j) keys[j - 1] = keys[j];  // their index stays a constant
      }
    }
    if (!__any_sync(kAllLanes, needed)) break;  // and none of what follows these in their lists
  }
  answer(a, all, probe + warp, lane);
}

inline bool possible(const PartDistance& a) {
  return a.probe_count >= 0 && a.entries >= 0 && a.parts > 0 && a.dim > 0 && a.k > 0 && a.k <= kKept &&
         a.probe_count <= INT32_MAX - kWarp && a.entries <= INT32_MAX - kWarp &&  // and their next pass
         int64_t(a.parts) * a.dim <= kLargest && (a.type == kFloat32 || a.type == kFloat16);
}

template <class F>
int64_t workspace(const PartDistance& a) {
  const int chunks = cut<F>(a).chunks;
  return chunks == 1 ? 0 : kTicketBytes + int64_t(a.probe_count) * a.k * chunks * int64_t(sizeof(uint64_t));
}

template <class F>
int launch_form(const PartDistance& a, void* stream) {
  const Cut grid = cut<F>(a);
  if (grid.chunks > 1 && a.workspace == nullptr) return kUnsupported;
  const unsigned blocks = unsigned(grid.tiles) * unsigned(grid.chunks);
  if (a.type == kFloat32) return launch(nearest<F, float>, blocks, F::kThreads, F::kShared, stream, a);
  return launch(nearest<F, half_t>, blocks, F::kThreads, F::kShared, stream, a);
}

}  // namespace part_distance

// Bytes that launch_part_distance's workspace must have; kUnsupported for what that refuses.
inline int64_t part_distance_workspace(const PartDistance& a) {
  if (!part_distance::possible(a)) return kUnsupported;
  if (a.probe_count == 0) return 0;
  return a.probe_count == 1 ? part_distance::workspace<part_distance::One>(a)
                            : part_distance::workspace<part_distance::Eight>(a);
}

inline int launch_part_distance(const PartDistance& a, void* stream) {
  if (!part_distance::possible(a)) return kUnsupported;
  if (a.probe_count == 0) return 0;
  return a.probe_count == 1 ? part_distance::launch_form<part_distance::One>(a, stream)
                            : part_distance::launch_form<part_distance::Eight>(a, stream);
}

}  // namespace gaitedge
