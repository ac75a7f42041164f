// Sobel gradient magnitude of an image, and its gradient. Channels are batch entries here.
#include <cmath>
#include <type_traits>

#include "stencil.h"
#include "stream.h"

namespace ANATOMAD_LEVEL {
namespace {

constexpr int kLongRow = 256;  // voxels of a row that the forward pass works on at a time
constexpr int kStrip = 16;     // rows that share the sums of their neighbours
constexpr int kSpace = kLongRow + 32;
constexpr int kLead = 16;  // before voxel 0 there is one more, and voxels 0, 16, ... start a cache line

// A row's part in the derivatives: smoothed across the depth and differentiated along the width, smoothed along both,
// and the other way round. The rows before and after it are still to come in.
struct Part {
  alignas(64) float x[kSpace], y[kSpace], z[kSpace];
};

// The part of the n voxels from x0 of the row (z, y); beyond the border, the border.
template <class T, bool kFlat> void load(Shape s, const T* image, int64_t z, int64_t y, int64_t x0, int n, Part& out) {
  const T* line[3];
  for (int j = 0; j < 3; ++j)
    line[j] = image + (clamped(kFlat ? z : z + j - 1, s.depth) * s.height + clamped(y, s.height)) * s.width;
  alignas(64) float sum_space[kLead + kSpace], difference_space[kLead + kSpace];
  float *sum = sum_space + kLead, *difference = difference_space + kLead;
  const auto across = [&](int to, int64_t from) {
    if (kFlat) {
      sum[to] = widen(line[0][from]);
    } else {
      const float a = widen(line[0][from]), b = widen(line[1][from]), c = widen(line[2][from]);
      sum[to] = plus_twice(a, b) + c;
      difference[to] = c - a;
    }
  };
  const int first = static_cast<int>(std::max<int64_t>(0, -x0));
  const int last = static_cast<int>(std::min<int64_t>(n, s.width - x0));
  for (int i = -1; i < first; ++i) across(i, clamped(x0 + i, s.width));
#pragma omp simd
  for (int i = first; i < last; ++i) across(i, x0 + i);
  for (int i = last; i <= n; ++i) across(i, clamped(x0 + i, s.width));
#pragma omp simd
  for (int i = 0; i < n; ++i) {
    out.x[i] = sum[i + 1] - sum[i - 1];
    out.y[i] = plus_twice(sum[i - 1], sum[i]) + sum[i + 1];
    if (!kFlat) out.z[i] = plus_twice(difference[i - 1], difference[i]) + difference[i + 1];
  }
}

// Weighted derivative along each axis, of a voxel of the row between two others.
template <bool kFlat> struct Derivative {
  float x, y, z = 0;
  Derivative(const Part& a, const Part& b, const Part& d, const float (&c)[3], int i)
      : x(c[2] * (plus_twice(a.x[i], b.x[i]) + d.x[i])), y(c[1] * (d.y[i] - a.y[i])) {
    if (!kFlat) z = c[0] * (plus_twice(a.z[i], b.z[i]) + d.z[i]);
  }
  float length(float eps) const {
    const float plane = eps + y * y + x * x;
    return std::sqrt(kFlat ? plane : plane + z * z);
  }
};

void scaled(const float* weights, bool flat, float (&c)[3]) {
  for (int d = 0; d < 3; ++d) c[d] = weights[d] * (flat ? 1.0f / 8 : 1.0f / 32);
}

template <class T, bool kFlat> void forward(Shape s, const T* image, const float* weights, float eps, T* magnitude) {
  const int64_t strips = (s.height + kStrip - 1) / kStrip, pieces = (s.width + kLongRow - 1) / kLongRow;
  float c[3];
  scaled(weights, kFlat, c);
  const bool large = s.batch * s.voxels() * static_cast<int64_t>(sizeof(T)) >= kStreamed;
#pragma omp parallel num_threads(s.threads)
  {
#pragma omp for nowait
    for (int64_t job = 0; job < s.batch * s.depth * strips * pieces; ++job) {
      const int64_t x0 = job % pieces * kLongRow, y0 = job / pieces % strips * kStrip;
      const int64_t z = job / pieces / strips % s.depth, start = job / pieces / strips / s.depth * s.voxels();
      const int n = static_cast<int>(std::min<int64_t>(kLongRow, s.width - x0));
      Part rows[3];  // y - 1, y, y + 1, in turn
      const auto next = [&](int64_t y) { load<T, kFlat>(s, image + start, z, y, x0, n, rows[(y + 3) % 3]); };
      next(y0 - 1);
      next(y0);
      for (int64_t y = y0; y < std::min(y0 + kStrip, s.height); ++y) {
        next(y + 1);
        const Part &before = rows[(y + 2) % 3], &here = rows[y % 3], &after = rows[(y + 1) % 3];
        T* out = magnitude + start + (z * s.height + y) * s.width + x0;
        const auto write = [&](T* to) {
#pragma omp simd
          for (int i = 0; i < n; ++i) narrow(Derivative<kFlat>(before, here, after, c, i).length(eps), to[i]);
        };
        if constexpr (std::is_same_v<T, float>) {
          if (large) {
            alignas(64) float row[kLongRow];
            write(row);
            stream_row(row, n, out);
            continue;
          }
        }
        write(out);
      }
    }
    streamed();
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
    std::vector<Part> rows(Fold::kHeight + 4);
    Part h{};  // derivatives times upstream gradient over magnitude
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
        for (int y = -2; y < height + 2; ++y) load<T, kFlat>(s, image + start, zc, y0 + y, x0 - 1, n + 2, rows[y + 2]);
        for (int y = -1; y < height + 1; ++y) {
          const int64_t yc = clamped(y0 + y, s.height);
          const Part* row = &rows[yc - y0 + 2];
          const T* g = gradient + start + (zc * s.height + yc) * s.width;
          const float cy = yc == y0 + y ? c[1] : -c[1], cz = zc == z0 + z ? c[0] : -c[0];
          copy_row(g, x0, n, 1, s.width, upstream, n + 2);
#pragma omp simd
          for (int i = 0; i < n + 2; ++i) {
            const Derivative<kFlat> d(row[-1], row[0], row[1], c, i);
            const float ratio = widen(upstream[i]) / d.length(eps);
            h.x[i] = d.x * ratio * c[2];
            h.y[i] = d.y * ratio * cy;
            if (!kFlat) h.z[i] = d.z * ratio * cz;
          }
          if (x0 == 0) h.x[0] = -h.x[1], h.y[0] = h.y[1], h.z[0] = h.z[1];
          if (x0 + n == s.width) h.x[n + 1] = -h.x[n], h.y[n + 1] = h.y[n], h.z[n + 1] = h.z[n];
          fold.add(z, y, h.x, h.y, h.z, n);
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
