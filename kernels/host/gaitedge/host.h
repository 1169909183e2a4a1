// CUDA's words for a host compiler, so that a kernel's own source runs on a CPU, thread by thread.
//
// A block's threads are fibers. A warp runs until all its lanes wait at the block's barrier, then the
// next warp does: each is as far ahead of the others as the kernel lets it be, which is what shows a
// missing barrier. The order of warps and lanes is the caller's to choose (gaitedge_host_order).
// Shared memory starts as 0xff bytes, NaN in every float type, and is checked for writes past its end;
// asynchronous copies arrive as late as they may.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __grid_constant__

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace gaitedge::host {

// Where a fiber is, and where its block is.
extern dim3 thread_index, block_index, block_size, grid_size;

// Runs `kernel` for every thread of every block. 0, or kFailed where a barrier or a warp function was
// not reached by all, or shared memory was written past its end; gaitedge_host_failure says which.
constexpr int kFailed = -2;
int run(const std::function<void()>& kernel, dim3 grid, dim3 block, size_t shared);

unsigned char* shared_memory();
void block_barrier();

// All lanes of a warp meet: `work` gets every lane's input and writes every lane's output.
using Work = void (*)(const void* const* in, void* const* out, int argument);
void meet(const void* in, void* out, Work work, int argument);

void copy_async16(void* shared, const void* global, bool there);
void copy_commit();
void copy_wait(int pending);

void mma_f16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void mma_s8(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], bool is_unsigned);
void load_matrices(uint32_t (&r)[4], const void* row);

inline uint32_t pack(_Float16 low, _Float16 high) {
  const _Float16 both[2] = {low, high};
  uint32_t result;
  std::memcpy(&result, both, 4);
  return result;
}

inline float2 unpack(uint32_t value) {
  _Float16 both[2];
  std::memcpy(both, &value, 4);
  return {static_cast<float>(both[0]), static_cast<float>(both[1])};
}

enum class Shuffle { kXor, kDown, kUp, kFrom };

template <class T, Shuffle kind>
void shuffled(const void* const* in, void* const* out, int argument) {
  for (int lane = 0; lane < 32; ++lane) {
    int from = kind == Shuffle::kXor    ? lane ^ argument
               : kind == Shuffle::kDown ? lane + argument
               : kind == Shuffle::kUp   ? lane - argument
                                        : argument & 31;
    if (from < 0 || from > 31) from = lane;  // as CUDA: a lane keeps its own
    *static_cast<T*>(out[lane]) = *static_cast<const T*>(in[from]);
  }
}

// Its own source lane for each lane, as __shfl_sync allows.
template <class T>
struct Asked {
  T value;
  int from;
};

template <class T>
void fetched(const void* const* in, void* const* out, int) {
  for (int lane = 0; lane < 32; ++lane) {
    const int from = static_cast<const Asked<T>*>(in[lane])->from & 31;
    *static_cast<T*>(out[lane]) = static_cast<const Asked<T>*>(in[from])->value;
  }
}

void nothing(const void* const* in, void* const* out, int argument);
void voted(const void* const* in, void* const* out, int argument);

}  // namespace gaitedge::host

#define threadIdx (::gaitedge::host::thread_index)
#define blockIdx (::gaitedge::host::block_index)
#define blockDim (::gaitedge::host::block_size)
#define gridDim (::gaitedge::host::grid_size)

inline void __syncthreads() { gaitedge::host::block_barrier(); }
inline void __syncwarp(unsigned = 0xffffffffu) {
  char none = 0;
  gaitedge::host::meet(&none, &none, gaitedge::host::nothing, 0);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  T result;
  gaitedge::host::meet(&value, &result, gaitedge::host::shuffled<T, gaitedge::host::Shuffle::kXor>, mask);
  return result;
}
template <class T>
T __shfl_down_sync(unsigned, T value, unsigned by) {
  T result;
  gaitedge::host::meet(&value, &result, gaitedge::host::shuffled<T, gaitedge::host::Shuffle::kDown>, int(by));
  return result;
}
template <class T>
T __shfl_up_sync(unsigned, T value, unsigned by) {
  T result;
  gaitedge::host::meet(&value, &result, gaitedge::host::shuffled<T, gaitedge::host::Shuffle::kUp>, int(by));
  return result;
}
template <class T>
T __shfl_sync(unsigned, T value, int from) {
  const gaitedge::host::Asked<T> asked{value, from};
  T result;
  gaitedge::host::meet(&asked, &result, gaitedge::host::fetched<T>, 0);
  return result;
}
inline unsigned __ballot_sync(unsigned, int predicate) {
  unsigned result = 0;
  gaitedge::host::meet(&predicate, &result, gaitedge::host::voted, 0);
  return result;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == 0xffffffffu; }

// Blocks run one after the other and nothing interrupts a thread, so these need no more than this.
template <class T>
T atomicAdd(T* address, T value) {
  const T before = *address;
  *address = before + value;
  return before;
}
inline void __threadfence() {}
template <class T>
T __ldg(const T* address) {
  return *address;
}
