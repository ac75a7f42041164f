// Linear interpolation of class scores at the places of an output grid, and the label of the largest, in one pass.
#include <cmath>

#include "classes.h"

namespace ANATOMAD_LEVEL {
namespace {

template <class T, bool kFlat>
void resample(Shape s, const T* logits, const float* matrix, Shape output, uint8_t* labels) {
  // matrix: 3 rows of 4, in the order depth, height, width; 2D leaves the first row and column at zero.
  constexpr int kCorners = kFlat ? 4 : 8;
  const int64_t size[3] = {s.depth, s.height, s.width}, stride[3] = {s.height * s.width, s.width, 1};
  const int64_t rows = output.depth * output.height, voxels = s.voxels();
#pragma omp parallel for num_threads(s.threads)
  for (int64_t job = 0; job < s.batch * rows; ++job) {
    const float z = static_cast<float>(job % rows / output.height), y = static_cast<float>(job % output.height);
    const T* scores = logits + job / rows * s.channels * voxels;
    for (int64_t x0 = 0; x0 < output.width; x0 += kBlock) {
      const int n = static_cast<int>(std::min<int64_t>(kBlock, output.width - x0));
      float weight[kCorners][kBlock], best[kBlock];
      int64_t offset[kCorners][kBlock];
      int32_t label[kBlock];
      for (int i = 0; i < n; ++i) {
        const float x = static_cast<float>(x0 + i);
        float share[3][2];
        int64_t place[3][2];
        for (int d = kFlat; d < 3; ++d) {
          const float* m = matrix + 4 * d;
          const float inner = kFlat ? m[1] * y + m[2] * x : m[0] * z + m[1] * y + m[2] * x;
          const float top = static_cast<float>(size[d] - 1);
          float at = m[3] + inner;
          at = at < 0 ? 0 : at > top ? top : at;
          const float low = std::floor(at);
          const int64_t first = static_cast<int64_t>(low);
          share[d][1] = at - low;
          share[d][0] = 1 - share[d][1];
          place[d][0] = first * stride[d];
          place[d][1] = std::min(first + 1, size[d] - 1) * stride[d];
        }
        for (int c = 0; c < kCorners; ++c) {
          const int a = c >> 2, b = c >> 1 & 1, e = c & 1;
          weight[c][i] = kFlat ? share[1][b] * share[2][e] : share[0][a] * share[1][b] * share[2][e];
          offset[c][i] = (kFlat ? 0 : place[0][a]) + place[1][b] + place[2][e];
        }
      }
      for (int64_t k = 0; k < s.channels; ++k) {
        const T* row = scores + k * voxels;
#pragma omp simd
        for (int i = 0; i < n; ++i) {
          float value = weight[0][i] * widen(row[offset[0][i]]);
          for (int c = 1; c < kCorners; ++c) value += weight[c][i] * widen(row[offset[c][i]]);
          const bool better = k == 0 || value > best[i];
          best[i] = better ? value : best[i];
          label[i] = better ? static_cast<int32_t>(k) : label[i];
        }
      }
      uint8_t* out = labels + job * output.width + x0;
      for (int i = 0; i < n; ++i) out[i] = static_cast<uint8_t>(label[i]);
    }
  }
}

}  // namespace

void resample_argmax(Type type, Shape s, const void* logits, const float* matrix, Shape output, uint8_t* labels) {
  with_float(type, [&](auto t) {
    using T = decltype(t);
    (s.flat ? resample<T, true> : resample<T, false>)(s, static_cast<const T*>(logits), matrix, output, labels);
  });
}

}  // namespace ANATOMAD_LEVEL
