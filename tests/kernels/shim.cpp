// Small kernels for test_host_build.py: one a promise of CUDA's, or a thing that it forbids.
#include "gaitedge/arguments.h"
#include "gaitedge/tensor_core.h"

using namespace gaitedge;

struct Given {
  const void* in;
  void* out;
  int number;
};

template <class T>
const T* in(const Given& g) { return static_cast<const T*>(g.in); }
template <class T>
T* out(const Given& g) { return static_cast<T*>(g.out); }

#define KERNEL(name)                                                                             \
  void name##_kernel(Given);                                                                     \
  GAITEDGE_API int name(const void* in, void* out, int number, int blocks, int threads, int shared) { \
    return launch(name##_kernel, blocks, threads, shared, nullptr, Given{in, out, number});       \
  }                                                                                              \
  __global__ void name##_kernel(Given g)

KERNEL(reversed) {  // number: whether to wait
  GAITEDGE_SHARED(shared);
  int* const values = reinterpret_cast<int*>(shared);
  values[threadIdx.x] = int(threadIdx.x);
  if (g.number) __syncthreads();
  out<int>(g)[blockIdx.x * blockDim.x + threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
}

KERNEL(numbered) { out<int>(g)[threadIdx.x] = atomicAdd(out<int>(g) + blockDim.x, 1); }

KERNEL(unwritten) {
  GAITEDGE_SHARED(shared);
  out<float>(g)[threadIdx.x] = reinterpret_cast<float*>(shared)[threadIdx.x];
}

KERNEL(written_past) {
  GAITEDGE_SHARED(shared);
  shared[threadIdx.x + g.number] = 0;
}

KERNEL(waits_in_part) {
  if (int(threadIdx.x) < g.number) __syncthreads();
}

KERNEL(votes_in_part) {
  if (int(threadIdx.x) < g.number) __any_sync(kAllLanes, 1);
}

KERNEL(votes_or_shuffles) {
  if (int(threadIdx.x) < g.number) {
    __any_sync(kAllLanes, 1);
  } else {
    __shfl_xor_sync(kAllLanes, 1.f, 1);
  }
}

KERNEL(shuffled) {
  const int lane = threadIdx.x % kWarp;
  const int x = in<int>(g)[threadIdx.x];
  int* const y = out<int>(g) + 9 * threadIdx.x;
  y[0] = __shfl_xor_sync(kAllLanes, x, 5);
  y[1] = __shfl_down_sync(kAllLanes, x, 3);
  y[2] = __shfl_up_sync(kAllLanes, x, 3);
  y[3] = __shfl_sync(kAllLanes, x, 7);
  y[4] = __shfl_sync(kAllLanes, x, (lane * 3 + 1) % kWarp);
  y[5] = int(__ballot_sync(kAllLanes, x % 3 == 0));
  y[6] = __any_sync(kAllLanes, x == 11);
  y[7] = __all_sync(kAllLanes, x < 64);
  __syncwarp();
  const uint64_t wide = __shfl_xor_sync(kAllLanes, uint64_t(x) << 32 | 1, 1);
  y[8] = wide % 2 == 1 ? int(wide >> 32) : -1;
}

// A [16, 32 bytes], B [8 columns, 32 bytes], by the statements of tensor_core.h.
__device__ void fragments(const unsigned char* given, uint32_t (&a)[4], uint32_t (&b)[2]) {
  const int row = threadIdx.x / 4, byte = 4 * (threadIdx.x % 4);
  const unsigned char* const columns = given + 16 * 32;
  memcpy(&a[0], given + 32 * row + byte, 4);
  memcpy(&a[1], given + 32 * (row + 8) + byte, 4);
  memcpy(&a[2], given + 32 * row + 16 + byte, 4);
  memcpy(&a[3], given + 32 * (row + 8) + 16 + byte, 4);
  memcpy(&b[0], columns + 32 * row + byte, 4);
  memcpy(&b[1], columns + 32 * row + 16 + byte, 4);
}

// C [16, 8] in, and out with the product added.
template <class T>
using Product = void (*)(T (&)[4], const uint32_t (&)[4], const uint32_t (&)[2]);
template <class T>
__device__ void multiply(const Given& g, Product<T> product) {
  uint32_t a[4], b[2];
  fragments(in<unsigned char>(g), a, b);
  T* const first = out<T>(g) + threadIdx.x / 4 * 8 + threadIdx.x % 4 * 2;
  T c[4] = {first[0], first[1], first[64], first[65]};
  product(c, a, b);
  first[0] = c[0];
  first[1] = c[1];
  first[64] = c[2];
  first[65] = c[3];
}

KERNEL(products_of_halves) { multiply<float>(g, mma); }
KERNEL(products_of_int8) { multiply<int32_t>(g, mma<false>); }
KERNEL(products_of_uint8) { multiply<int32_t>(g, mma<true>); }

// A [16, 16] and B [16 columns, 16] of halves → C [16, 16]; in shared memory with rows 48 bytes apart.
KERNEL(loaded) {
  GAITEDGE_SHARED(shared);
  const int lane = threadIdx.x, apart = 48;
  unsigned char *const tile = shared, *const weights = shared + 16 * apart;
  for (int i = lane; i < 64; i += kWarp) {
    copy_async16(shared + i / 2 * apart + i % 2 * 16, in<unsigned char>(g) + 16 * i);
  }
  copy_commit();
  copy_wait<0>();
  __syncthreads();
  uint32_t a[4], b[4];
  load_matrices(a, tile + lane % 16 * apart + lane / 16 * 16 + g.number);
  load_matrices(b, weights + (lane % 8 + 8 * (lane / 16)) * apart + 16 * (lane / 8 % 2));
  for (int half = 0; half < 2; ++half) {
    float c[4] = {};
    const uint32_t columns[2] = {b[2 * half], b[2 * half + 1]};
    mma(c, a, columns);
    float* const first = out<float>(g) + lane / 4 * 16 + 8 * half + lane % 4 * 2;
    first[0] = c[0];
    first[1] = c[1];
    first[128] = c[2];
    first[129] = c[3];
  }
}

// Three groups of 16 bytes a thread, the last one of zeros; number: how many may still be under way.
KERNEL(copied) {
  GAITEDGE_SHARED(shared);
  unsigned char* const own = shared + 48 * threadIdx.x;
  for (int group = 0; group < 3; ++group) {
    copy_async16(own + 16 * group, in<unsigned char>(g) + 16 * threadIdx.x, group < 2);
    copy_commit();
  }
  if (g.number == 0) copy_wait<0>();
  if (g.number == 1) copy_wait<1>();
  if (g.number == 2) copy_wait<2>();
  __syncthreads();
  memcpy(out<unsigned char>(g) + 48 * threadIdx.x, own, 48);
}

KERNEL(copied_crookedly) {
  GAITEDGE_SHARED(shared);
  copy_async16(shared + 8, g.in);
}

KERNEL(strips) {  // of every row of `number`, in 1 to `number` strips: its strip, and that strip's first row
  int* y = out<int>(g);
  for (int strips = 1; strips <= g.number; ++strips) {
    for (int row = 0; row < g.number; ++row, y += 2) {
      y[0] = strip_of(g.number, strips, row);
      y[1] = strip_start(g.number, strips, y[0]);
    }
  }
}

KERNEL(numbers) {
  const float x = in<float>(g)[threadIdx.x];
  float* const y = out<float>(g) + 4 * threadIdx.x;
  y[0] = quantize(x, 2.f);
  y[1] = maximum(x, 0.5f);
  y[2] = maximum(0.5f, x);
  y[3] = leaky_relu(x, 0.25f);
}
