// What every kernel is written in: CUDA C++, by nvcc; and by a host compiler, over kernels/host.
//
// The same source serves both. For the host compiler, gaitedge/host.h gives CUDA's own words their
// meaning: threads of a block are fibers that run one after the other, __syncthreads() is where they
// wait for each other. What differs by architecture is wrapped here and in tensor_core.h.
//
// Rules that make it work: shared memory is dynamic, through GAITEDGE_SHARED; a block is a multiple of
// 32 threads; warp functions are called by all 32 lanes; no thread returns while others synchronise.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gaitedge/arguments.h"

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define GAITEDGE_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#else
#include "gaitedge/host.h"
#define GAITEDGE_SHARED(name) unsigned char* const name = ::gaitedge::host::shared_memory()
#endif

namespace gaitedge {

#if defined(__CUDACC__)
using half_t = __half;
#else
using half_t = _Float16;
#endif

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr size_t kSharedWithoutAsking = 48 * 1024;  // bytes that a block may use without an attribute

// Numbers -------------------------------------------------------------------------------------------

__host__ __device__ __forceinline__ float to_float(float x) { return x; }
__host__ __device__ __forceinline__ float to_float(int8_t x) { return static_cast<float>(x); }
__host__ __device__ __forceinline__ float to_float(uint8_t x) { return static_cast<float>(x); }
__host__ __device__ __forceinline__ float to_float(half_t x) {
#if defined(__CUDACC__)
  return __half2float(x);
#else
  return static_cast<float>(x);
#endif
}

// Rounds to the nearest, ties to even.
template <class T>
__host__ __device__ __forceinline__ T from_float(float x);
template <>
__host__ __device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__host__ __device__ __forceinline__ half_t from_float<half_t>(float x) {
#if defined(__CUDACC__)
  return __float2half_rn(x);
#else
  return static_cast<half_t>(x);
#endif
}

// Two numbers in one register: `low` at the lower address.
__device__ __forceinline__ uint32_t pack_half2(float low, float high) {
#if defined(__CUDACC__)
  const __half2 both = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&both);
#else
  return host::pack(static_cast<half_t>(low), static_cast<half_t>(high));
#endif
}

__device__ __forceinline__ float2 unpack_half2(uint32_t both) {
#if defined(__CUDACC__)
  return __half22float2(*reinterpret_cast<const __half2*>(&both));
#else
  return host::unpack(both);
#endif
}

// The maximum as NumPy and PyTorch have it: NaN if one of them is. CUDA's fmaxf would lose it.
__host__ __device__ __forceinline__ float maximum(float a, float b) { return a > b || a != a ? a : b; }

// Positive numbers as they are, the others times `slope`; NaN stays NaN.
__host__ __device__ __forceinline__ float leaky_relu(float x, float slope) { return x > 0.f ? x : slope * x; }

// Round to the nearest integer, ties to even, and keep it within int8 without -128, as ONNX'
// QuantizeLinear of a symmetric scale does; NaN becomes 0.
__device__ __forceinline__ int8_t quantize(float x, float inverse_scale) {
  const float scaled = x * inverse_scale;
  if (scaled != scaled) return 0;
  return static_cast<int8_t>(rintf(fminf(fmaxf(scaled, -127.f), 127.f)));
}

__host__ __device__ constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
__host__ __device__ constexpr int round_up(int a, int b) { return ceil_div(a, b) * b; }

// First row of horizontal strip `strip` out of `strips`. Where they cannot be equal the upper ones have
// a row more: 16 rows in 3 strips are 6, 5, 5 (strip_heights of gaitedge/config.py).
__host__ __device__ constexpr int strip_start(int height, int strips, int strip) {
  return strip * (height / strips) + (strip < height % strips ? strip : height % strips);
}

// The strip that row `row` lies in; the inverse of strip_start.
__host__ __device__ constexpr int strip_of(int height, int strips, int row) {
  const int rows = height / strips, extra = height % strips, upper = extra * (rows + 1);
  return row < upper ? row / (rows + 1) : extra + (row - upper) / rows;
}

// Copies to shared memory that go on while the block computes -----------------------------------------

// 16 bytes; `there` false writes zeros instead and reads nothing. Both addresses are multiples of 16.
// What arrives is seen after copy_wait and a barrier. Compute capability 7.5 copies at once.
__device__ __forceinline__ void copy_async16(void* shared, const void* global, bool there = true) {
#if !defined(__CUDACC__)
  host::copy_async16(shared, global, there);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(there ? 16 : 0)
               : "memory");
#else
  *static_cast<uint4*>(shared) = there ? *static_cast<const uint4*>(global) : make_uint4(0, 0, 0, 0);
#endif
}

// Ends a group of copies.
__device__ __forceinline__ void copy_commit() {
#if !defined(__CUDACC__)
  host::copy_commit();
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most `Pending` of this thread's latest groups are still under way.
template <int Pending>
__device__ __forceinline__ void copy_wait() {
#if !defined(__CUDACC__)
  host::copy_wait(Pending);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
#endif
}

// Launching -------------------------------------------------------------------------------------------

// Bytes of shared memory that a block may have on the current device at most; 0 where CUDA cannot tell.
inline size_t shared_limit() {
#if defined(__CUDACC__)
  int device = 0, most = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 0;
  const auto wanted = cudaDevAttrMaxSharedMemoryPerBlockOptin;
  return cudaDeviceGetAttribute(&most, wanted, device) == cudaSuccess ? size_t(most) : 0;
#else
  return SIZE_MAX;
#endif
}

// Queue a kernel of one argument, a struct of pointers and numbers. Returns 0, CUDA's error number, or
// kUnsupported where the device has not so much shared memory; a grid of no blocks is done at once.
// Allocates nothing and waits for nothing: it can be captured.
template <class Arguments>
int launch(void (*kernel)(Arguments), dim3 grid, dim3 block, size_t shared, void* stream,
           const Arguments& arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return 0;
#if defined(__CUDACC__)
  const void* const function = reinterpret_cast<const void*>(kernel);
  if (shared > kSharedWithoutAsking) {
    const size_t limit = shared_limit();
    if (limit != 0 && shared > limit) return kUnsupported;
    // Always the device's limit: were it this launch's own need, another thread's smaller one could come in
    // between. How much of L1 becomes shared memory follows from what a launch takes, not from this.
    const cudaError_t status = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                    static_cast<int>(limit != 0 ? limit : shared));
    if (status != cudaSuccess) return static_cast<int>(status);
  }
  void* values[] = {const_cast<Arguments*>(&arguments)};
  return static_cast<int>(
      cudaLaunchKernel(function, grid, block, values, shared, static_cast<cudaStream_t>(stream)));
#else
  (void)stream;
  return host::run([&] { kernel(arguments); }, grid, block, shared);
#endif
}

}  // namespace gaitedge
