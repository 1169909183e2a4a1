// The matrix instructions, and the loads that feed them, of one warp.
//
// Fragments are those of PTX, with g = lane / 4 and t = lane % 4. One k step is 32 bytes of a row: 16
// FP16 or 32 INT8.
//
//   A, 16 rows × one k step     a[0] row g,     bytes 4t .. 4t+3      a[2] row g,     bytes 16+4t ..
//                               a[1] row g + 8, bytes 4t .. 4t+3      a[3] row g + 8, bytes 16+4t ..
//   B, one k step × 8 columns   b[0] column g,  bytes 4t .. 4t+3      b[1] column g,  bytes 16+4t ..
//   C, 16 rows × 8 columns      c[0], c[1] row g, columns 2t and 2t+1; c[2], c[3] row g + 8, the same
//
// So a column of B lies in memory with its k values side by side: weights are [out, k]. The layouts in
// bytes are the same for FP16 and INT8, and so are the loads.
//
// All are volatile: otherwise the compiler may move one into a branch in which its result is used, and that
// not all lanes of the warp take.
#pragma once

#include "gaitedge/platform.h"

namespace gaitedge {

// c += a·b of 16×16 by 16×8 halves, summed in FP32. Compute capability 7.5 has half that depth: twice.
__device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if !defined(__CUDACC__)
  host::mma_f16(c, a, b);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
  }
#endif
}

#if defined(__CUDACC__)
#define GAITEDGE_MMA_INT8(TYPE_OF_A)                                              \
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32." TYPE_OF_A                 \
               ".s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"    \
               : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])                   \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
#define GAITEDGE_MMA_INT8_SMALL(TYPE_OF_A, ROWS, DEPTH)                           \
  asm volatile("mma.sync.aligned.m8n8k16.row.col.s32." TYPE_OF_A                  \
               ".s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"                            \
               : "+r"(c[2 * (ROWS)]), "+r"(c[2 * (ROWS) + 1])                     \
               : "r"(a[2 * (DEPTH) + (ROWS)]), "r"(b[DEPTH]))
#endif

// c += a·b of 16×32 by 32×8 integers, exactly. A is int8, or uint8 where `Unsigned`.
template <bool Unsigned = false>
__device__ __forceinline__ void mma(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if !defined(__CUDACC__)
  host::mma_s8(c, a, b, Unsigned);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if constexpr (Unsigned) {
    GAITEDGE_MMA_INT8("u8");
  } else {
    GAITEDGE_MMA_INT8("s8");
  }
#else
#pragma unroll
  for (int rows = 0; rows < 2; ++rows) {
#pragma unroll
    for (int depth = 0; depth < 2; ++depth) {
      if constexpr (Unsigned) {
        GAITEDGE_MMA_INT8_SMALL("u8", rows, depth);
      } else {
        GAITEDGE_MMA_INT8_SMALL("s8", rows, depth);
      }
    }
  }
#endif
}

// Four 8×8 matrices of halves (8 rows of 16 bytes) out of shared memory: the row that a lane names with
// `row`, a multiple of 16 bytes, is row lane % 8 of matrix lane / 8. r[i] is matrix i's row lane / 4,
// bytes 4(lane % 4) onwards.
//
// An A fragment: row = &tile[first + lane % 16][k step + 16 bytes · (lane / 16)].
// Two B fragments, columns n .. n+7 in r[0], r[1], and n+8 .. n+15 in r[2], r[3]:
//   row = &weights[n + lane % 8 + 8 · (lane / 16)][k step + 16 bytes · (lane / 8 % 2)].
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const void* row) {
#if !defined(__CUDACC__)
  host::load_matrices(r, row);
#else
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
#endif
}

}  // namespace gaitedge
