// What a block of voxels needs of its classes: the largest score, and the softmax's gradient.
#pragma once
#include <algorithm>
#include <cstdint>

#include "kernels.h"

namespace ANATOMAD_LEVEL {

constexpr int kBlock = 128;  // voxels at a time, so that the classes of a block stay in the first-level cache

// Index of the largest of scores[k * stride + i]: the first on ties; comparisons with NaN fail.
template <class T> inline void largest(const T* scores, int64_t stride, int classes, int n, int32_t* label) {
  float best[kBlock];
  for (int i = 0; i < n; ++i) best[i] = widen(scores[i]), label[i] = 0;
  for (int k = 1; k < classes; ++k) {
    const T* row = scores + k * stride;
#pragma omp simd
    for (int i = 0; i < n; ++i) {
      const float x = widen(row[i]);
      const bool better = x > best[i];
      best[i] = better ? x : best[i];
      label[i] = better ? k : label[i];
    }
  }
}

// result_k = p_k (u_k - sum_j p_j u_j) / temperature with p = softmax(scores / temperature). upstream[k] is the row u_k,
// or nullptr for zeros.
template <class S, class G, class T>
inline void softmax_gradient(const S* scores, int64_t stride, const G* const* upstream, int classes, int n,
                             float temperature, float (*e)[kBlock], T* result, int64_t result_stride) {
  const float sharpness = 1.0f / temperature;
  float top[kBlock], sum[kBlock], dot[kBlock];
  for (int i = 0; i < n; ++i) top[i] = widen(scores[i]), sum[i] = 0, dot[i] = 0;
  for (int k = 1; k < classes; ++k) {
    const S* row = scores + k * stride;
#pragma omp simd
    for (int i = 0; i < n; ++i) {
      const float x = widen(row[i]);
      top[i] = x > top[i] ? x : top[i];
    }
  }
  for (int k = 0; k < classes; ++k) {
    const S* row = scores + k * stride;
    const G* u = upstream[k];
    if (u) {
#pragma omp simd
      for (int i = 0; i < n; ++i) {
        const float y = exp_negative((widen(row[i]) - top[i]) * sharpness);
        e[k][i] = y;
        sum[i] += y;
        dot[i] += y * widen(u[i]);
      }
    } else {
#pragma omp simd
      for (int i = 0; i < n; ++i) {
        const float y = exp_negative((widen(row[i]) - top[i]) * sharpness);
        e[k][i] = y;
        sum[i] += y;
      }
    }
  }
#pragma omp simd
  for (int i = 0; i < n; ++i) {
    const float share = 1.0f / sum[i];
    dot[i] *= share;
    sum[i] = share * sharpness;
  }
  for (int k = 0; k < classes; ++k) {
    const G* u = upstream[k];
    T* out = result + k * result_stride;
    if (u) {
#pragma omp simd
      for (int i = 0; i < n; ++i) narrow(e[k][i] * sum[i] * (widen(u[i]) - dot[i]), out[i]);
    } else {
#pragma omp simd
      for (int i = 0; i < n; ++i) narrow(e[k][i] * sum[i] * -dot[i], out[i]);
    }
  }
}

template <class T> inline void fill_zero(T* result, int64_t stride, int classes, int n) {
  for (int k = 0; k < classes; ++k) std::fill_n(result + k * stride, n, T{});
}

}  // namespace ANATOMAD_LEVEL
