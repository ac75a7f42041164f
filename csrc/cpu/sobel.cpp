// Sobel gradient magnitude of an image, and its gradient. Channels are batch entries here.
#include <cmath>

#include "stencil.h"

namespace ANATOMAD_LEVEL {
namespace {

struct Derivatives {
  alignas(64) float x[kRowSpace], y[kRowSpace], z[kRowSpace];
};

// Weighted derivatives at [x0 - halo, x0 + n + halo) of the row (z, y), inside the image.
template <class T, bool kFlat>
void derivatives(Shape s, const T* image, const float (&c)[3], int64_t z, int64_t y, int64_t x0, int n, int halo,
                 Derivatives& out) {
  constexpr int kLines = kFlat ? 3 : 9;
  alignas(64) float sum[kRowSpace], dy[kRowSpace], dz[kRowSpace];
  const T* line[kLines];
  for (int j = 0; j < kLines; ++j)
    line[j] = image + (clamped(kFlat ? z : z + j / 3 - 1, s.depth) * s.height + clamped(y + j % 3 - 1, s.height)) * s.width;
  // The row and one voxel on either side; beyond the border, the border.
  const int64_t first = x0 - halo - 1;
  const int total = n + 2 * halo + 2;
  const int from = static_cast<int>(std::max<int64_t>(0, -first));
  const int to = static_cast<int>(std::min<int64_t>(total, s.width - first));
#pragma omp simd
  for (int i = from; i < to; ++i) {
    float v[kLines];
    for (int j = 0; j < kLines; ++j) v[j] = widen(line[j][first + i]);
    if (kFlat) {
      sum[i] = v[0] + 2 * v[1] + v[2];
      dy[i] = v[2] - v[0];
    } else {
      const float a = v[0] + 2 * v[1] + v[2], b = v[3] + 2 * v[4] + v[5], d = v[6] + 2 * v[7] + v[8];
      sum[i] = a + 2 * b + d;
      dz[i] = d - a;
      dy[i] = (v[2] - v[0]) + 2 * (v[5] - v[3]) + (v[8] - v[6]);
    }
  }
  for (int i = 0; i < from; ++i) sum[i] = sum[from], dy[i] = dy[from], dz[i] = kFlat ? 0 : dz[from];
  for (int i = to; i < total; ++i) sum[i] = sum[to - 1], dy[i] = dy[to - 1], dz[i] = kFlat ? 0 : dz[to - 1];
#pragma omp simd
  for (int i = 0; i < total - 2; ++i) {
    out.x[i] = c[2] * (sum[i + 2] - sum[i]);
    out.y[i] = c[1] * (dy[i] + 2 * dy[i + 1] + dy[i + 2]);
    if (!kFlat) out.z[i] = c[0] * (dz[i] + 2 * dz[i + 1] + dz[i + 2]);
  }
}

template <bool kFlat> inline float length(const Derivatives& d, int i, float eps) {
  float sum = eps + d.y[i] * d.y[i] + d.x[i] * d.x[i];
  if (!kFlat) sum += d.z[i] * d.z[i];
  return std::sqrt(sum);
}

void scaled(const float* weights, bool flat, float (&c)[3]) {
  for (int d = 0; d < 3; ++d) c[d] = weights[d] * (flat ? 1.0f / 8 : 1.0f / 32);
}

template <class T, bool kFlat> void forward(Shape s, const T* image, const float* weights, float eps, T* magnitude) {
  const int64_t rows = s.depth * s.height, piece = piece_length(s.width);
  float c[3];
  scaled(weights, kFlat, c);
#pragma omp parallel for num_threads(s.threads)
  for (int64_t job = 0; job < s.batch * rows; ++job) {
    const T* volume = image + job / rows * s.voxels();
    for (int64_t x0 = 0; x0 < s.width; x0 += piece) {
      const int n = static_cast<int>(std::min(piece, s.width - x0));
      Derivatives d;
      derivatives<T, kFlat>(s, volume, c, job % rows / s.height, job % s.height, x0, n, 0, d);
      T* out = magnitude + job * s.width + x0;
#pragma omp simd
      for (int i = 0; i < n; ++i) narrow(length<kFlat>(d, i, eps), out[i]);
    }
  }
}

template <class T, bool kFlat>
void backward(Shape s, const T* gradient, const T* image, const float* weights, float eps, T* result) {
  using Fold = Transposed<kFlat>;
  const int64_t nz = (s.depth + Fold::kDepth - 1) / Fold::kDepth, ny = (s.height + Fold::kHeight - 1) / Fold::kHeight;
  const int64_t piece = piece_length(s.width), nx = (s.width + piece - 1) / piece, voxels = s.voxels();
  float c[3];
  scaled(weights, kFlat, c);
#pragma omp parallel num_threads(s.threads)
  {
    Fold fold;
#pragma omp for
    for (int64_t job = 0; job < s.batch * nz * ny * nx; ++job) {
      const int64_t x0 = job % nx * piece, y0 = job / nx % ny * Fold::kHeight;
      const int64_t z0 = job / nx / ny % nz * Fold::kDepth, start = job / nx / ny / nz * voxels;
      const int n = static_cast<int>(std::min(piece, s.width - x0));
      const int depth = static_cast<int>(std::min<int64_t>(Fold::kDepth, s.depth - z0));
      const int height = static_cast<int>(std::min<int64_t>(Fold::kHeight, s.height - y0));
      for (int z = -Fold::kAcross; z < depth + Fold::kAcross; ++z)
        for (int y = -1; y < height + 1; ++y) {
          const int64_t zc = clamped(z0 + z, s.depth), yc = clamped(y0 + y, s.height);
          Derivatives d{};
          derivatives<T, kFlat>(s, image + start, c, zc, yc, x0, n, 1, d);
          const T* g = gradient + start + (zc * s.height + yc) * s.width;
          const float cy = yc == y0 + y ? c[1] : -c[1], cz = zc == z0 + z ? c[0] : -c[0];
          for (int i = 0; i < n + 2; ++i) {
            const int64_t x = clamped(x0 - 1 + i, s.width);
            const float ratio = widen(g[x]) / length<kFlat>(d, i, eps);
            d.x[i] *= ratio * c[2];
            d.y[i] *= ratio * cy;
            d.z[i] *= ratio * cz;
          }
          if (x0 == 0) d.x[0] = -d.x[1], d.y[0] = d.y[1], d.z[0] = d.z[1];
          if (x0 + n == s.width) d.x[n + 1] = -d.x[n], d.y[n + 1] = d.y[n], d.z[n + 1] = d.z[n];
          fold.add(z, y, d.x, d.y, d.z, n);
        }
      fold.fold(depth, height, n);
      for (int z = 0; z < depth; ++z)
        for (int y = 0; y < height; ++y) {
          float row[kMaxRow];
          fold.result(z, y, n, row);
          T* out = result + start + ((z0 + z) * s.height + y0 + y) * s.width + x0;
          for (int i = 0; i < n; ++i) narrow(row[i], out[i]);
        }
    }
  }
}

}  // namespace

void sobel(Type type, Shape s, const void* image, const float* weights, float eps, void* magnitude) {
  with_float(type, [&](auto t) {
    using T = decltype(t);
    (s.flat ? forward<T, true> : forward<T, false>)(s, static_cast<const T*>(image), weights, eps,
                                                    static_cast<T*>(magnitude));
  });
}

void sobel_backward(Type type, Shape s, const void* gradient, const void* image, const float* weights, float eps,
                    void* result) {
  with_float(type, [&](auto t) {
    using T = decltype(t);
    (s.flat ? backward<T, true> : backward<T, false>)(s, static_cast<const T*>(gradient),
                                                      static_cast<const T*>(image), weights, eps,
                                                      static_cast<T*>(result));
  });
}

}  // namespace ANATOMAD_LEVEL
