// Sobel gradient magnitude of an image, and its gradient. Channels are batch entries here.
#include <cmath>

#include "stencil.h"

namespace ANATOMAD_LEVEL {
namespace {

constexpr int kLongRow = 256;  // voxels of a row that the forward pass works on at a time
constexpr int kStrip = 16;     // rows that share the sums of their neighbours
constexpr int kSpace = kLongRow + 32;

// Sum [1, 2, 1] and difference across the depth, of a row and one voxel on either side.
struct Across {
  alignas(64) float sum[kSpace], difference[kSpace];
};

struct Derivatives {
  alignas(64) float x[kSpace], y[kSpace], z[kSpace];
};

// [first, first + total) of the row (z, y); beyond the border, the border.
template <class T, bool kFlat>
void load(Shape s, const T* image, int64_t z, int64_t y, int64_t first, int total, Across& out) {
  const T* line[3];
  for (int j = 0; j < 3; ++j)
    line[j] = image + (clamped(kFlat ? z : z + j - 1, s.depth) * s.height + clamped(y, s.height)) * s.width + first;
  const int from = static_cast<int>(std::max<int64_t>(0, -first));
  const int to = static_cast<int>(std::min<int64_t>(total, s.width - first));
#pragma omp simd
  for (int i = from; i < to; ++i) {
    if (kFlat) {
      out.sum[i] = widen(line[0][i]);
    } else {
      const float a = widen(line[0][i]), b = widen(line[1][i]), c = widen(line[2][i]);
      out.sum[i] = a + 2 * b + c;
      out.difference[i] = c - a;
    }
  }
  for (int i = 0; i < from; ++i) out.sum[i] = out.sum[from], out.difference[i] = kFlat ? 0 : out.difference[from];
  for (int i = to; i < total; ++i) out.sum[i] = out.sum[to - 1], out.difference[i] = kFlat ? 0 : out.difference[to - 1];
}

// Weighted derivatives at n voxels, from the rows before, at and after; inputs start one voxel earlier.
template <bool kFlat>
void derive(const Across& a, const Across& b, const Across& d, const float (&c)[3], int n, Derivatives& out) {
  alignas(64) float sum[kSpace], dy[kSpace], dz[kSpace];
#pragma omp simd
  for (int i = 0; i < n + 2; ++i) {
    sum[i] = a.sum[i] + 2 * b.sum[i] + d.sum[i];
    dy[i] = d.sum[i] - a.sum[i];
    if (!kFlat) dz[i] = a.difference[i] + 2 * b.difference[i] + d.difference[i];
  }
#pragma omp simd
  for (int i = 0; i < n; ++i) {
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
  const int64_t strips = (s.height + kStrip - 1) / kStrip, pieces = (s.width + kLongRow - 1) / kLongRow;
  float c[3];
  scaled(weights, kFlat, c);
#pragma omp parallel for num_threads(s.threads)
  for (int64_t job = 0; job < s.batch * s.depth * strips * pieces; ++job) {
    const int64_t x0 = job % pieces * kLongRow, y0 = job / pieces % strips * kStrip;
    const int64_t z = job / pieces / strips % s.depth, start = job / pieces / strips / s.depth * s.voxels();
    const int n = static_cast<int>(std::min<int64_t>(kLongRow, s.width - x0));
    Across rows[3];  // y - 1, y, y + 1, in turn
    const auto next = [&](int64_t y) { load<T, kFlat>(s, image + start, z, y, x0 - 1, n + 2, rows[(y + 3) % 3]); };
    next(y0 - 1);
    next(y0);
    for (int64_t y = y0; y < std::min(y0 + kStrip, s.height); ++y) {
      next(y + 1);
      Derivatives d;
      derive<kFlat>(rows[(y + 2) % 3], rows[y % 3], rows[(y + 1) % 3], c, n, d);
      T* out = magnitude + start + (z * s.height + y) * s.width + x0;
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
    std::vector<Across> rows(Fold::kHeight + 4);
    Derivatives d{};
    T upstream[kRowSpace];
#pragma omp for
    for (int64_t job = 0; job < s.batch * nz * ny * nx; ++job) {
      const int64_t x0 = job % nx * piece, y0 = job / nx % ny * Fold::kHeight;
      const int64_t z0 = job / nx / ny % nz * Fold::kDepth, start = job / nx / ny / nz * voxels;
      const int n = static_cast<int>(std::min(piece, s.width - x0));
      const int depth = static_cast<int>(std::min<int64_t>(Fold::kDepth, s.depth - z0));
      const int height = static_cast<int>(std::min<int64_t>(Fold::kHeight, s.height - y0));
      for (int z = -Fold::kAcross; z < depth + Fold::kAcross; ++z) {
        const int64_t zc = clamped(z0 + z, s.depth);
        for (int y = -2; y < height + 2; ++y) load<T, kFlat>(s, image + start, zc, y0 + y, x0 - 2, n + 4, rows[y + 2]);
        for (int y = -1; y < height + 1; ++y) {
          const int64_t yc = clamped(y0 + y, s.height);
          const Across* row = &rows[yc - y0 + 2];
          derive<kFlat>(row[-1], row[0], row[1], c, n + 2, d);
          const T* g = gradient + start + (zc * s.height + yc) * s.width;
          const float cy = yc == y0 + y ? c[1] : -c[1], cz = zc == z0 + z ? c[0] : -c[0];
          copy_row(g, x0, n, 1, s.width, upstream, n + 2);
#pragma omp simd
          for (int i = 0; i < n + 2; ++i) {
            const float ratio = widen(upstream[i]) / length<kFlat>(d, i, eps);
            d.x[i] *= ratio * c[2];
            d.y[i] *= ratio * cy;
            if (!kFlat) d.z[i] *= ratio * cz;
          }
          if (x0 == 0) d.x[0] = -d.x[1], d.y[0] = d.y[1], d.z[0] = d.z[1];
          if (x0 + n == s.width) d.x[n + 1] = -d.x[n], d.y[n + 1] = d.y[n], d.z[n + 1] = d.z[n];
          fold.add(z, y, d.x, d.y, d.z, n);
        }
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
