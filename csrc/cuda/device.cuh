// Element types, vectors of neighbouring voxels, and launches.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels.h"

namespace gpu {

constexpr int kThreads = 256;

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float widen(__half x) { return __half2float(x); }

template <class T> __device__ inline T narrow(float x) { return x; }
template <> __device__ inline __nv_bfloat16 narrow<__nv_bfloat16>(float x) { return __float2bfloat16_rn(x); }
template <> __device__ inline __half narrow<__half>(float x) { return __float2half_rn(x); }

// Neighbouring voxels that are read and written at once.
template <class T, int kCount> struct alignas(sizeof(T) * kCount) Vector {
  T at[kCount];
  __device__ static Vector load(const T* from) { return *reinterpret_cast<const Vector*>(from); }
  __device__ void store(T* to) const { *reinterpret_cast<Vector*>(to) = *this; }
};

// Work of one thread: kCount voxels of one batch entry, neighbours in memory.
struct Place {
  int64_t batch, voxel;
  bool inside;
};
template <int kCount> __device__ inline Place place_of(const Shape& s) {
  const int64_t voxels = s.voxels(), pieces = voxels / kCount;
  const int64_t job = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (job >= s.batch * pieces) return {0, 0, false};
  // A 64-bit division costs a hundred instructions, and batches are few.
  const int64_t b = s.batch == 1 ? 0 : job / pieces;
  return {b, (job - b * pieces) * kCount, true};
}

inline unsigned blocks_of(int64_t jobs) { return static_cast<unsigned>((jobs + kThreads - 1) / kThreads); }

// Whether vectors of kCount voxels stay within a channel, and addresses are those of whole vectors.
template <int kCount, class... Pointers> inline bool vectors_fit(const Shape& s, Pointers... pointers) {
  return s.voxels() % kCount == 0 && (... && (reinterpret_cast<std::uintptr_t>(pointers) % 16 == 0));
}

// Calls f with a value of the element type.
template <class F> inline cudaError_t with_float(Type type, F f) {
  switch (type) {
    case Type::fp32: f(float{}); break;
    case Type::bf16: f(__nv_bfloat16{}); break;
    default: f(__half{}); break;
  }
  return cudaGetLastError();
}

// Softmax in one pass over the classes: largest score, sum of exponentials, and their product with the gradient.
struct Softmax {
  float top = -INFINITY, total = 0, dot = 0;
  __device__ void add(float x, float g) {
    const float larger = x > top || x != x ? x : top;
    const float base = larger == -INFINITY ? 0.0f : larger;
    const float shrink = __expf(top - base), e = __expf(x - base);
    total = total * shrink + e;
    dot = dot * shrink + e * g;
    top = larger;
  }
  // Gradient of a class; close() comes first.
  __device__ void close() { dot /= total, total = 1.0f / total; }
  __device__ float gradient(float x, float g) const { return __expf(x - top) * total * (g - dot); }
};

}  // namespace gpu
