// Sobel gradient magnitude of an image, and its gradient. Channels are batch entries here.
#include "stencil.cuh"

namespace gpu {
namespace {

// A tile of the image and kHalo voxels around it.
template <bool kFlat, int kHalo> struct Image {
  using Of = Tile<kFlat>;
  static constexpr int kPlanes = Of::kDepth + 2 * kHalo * Of::kAcross, kLines = Of::kHeight + 2 * kHalo;
  static constexpr int kSpan = Of::kWidth + 2 * kHalo;
  float at[kPlanes][kLines][kSpan];

  template <class T> __device__ void load(const Shape& s, const Of& tile, const T* image) {
    float* all = &at[0][0][0];
    for (int i = threadIdx.x; i < kPlanes * kLines * kSpan; i += kThreads) {
      const int z = clamped(tile.z0 + i / kSpan / kLines - kHalo * Of::kAcross, s.depth);
      const int y = clamped(tile.y0 + i / kSpan % kLines - kHalo, s.height);
      const int x = clamped(tile.x0 + i % kSpan - kHalo, s.width);
      all[i] = widen(image[tile.start + (static_cast<int64_t>(z) * s.height + y) * s.width + x]);
    }
    __syncthreads();
  }

  // Scaled derivatives of kCount neighbouring voxels, the first at (plane, line, x + 1).
  template <int kCount>
  __device__ void derivatives(int plane, int line, int x, Axes scales, float (&gz)[kCount], float (&gy)[kCount],
                              float (&gx)[kCount]) const {
    float sum[kCount + 2] = {}, dy[kCount + 2] = {}, dz[kCount + 2] = {};
#pragma unroll
    for (int j = -Of::kAcross; j <= Of::kAcross; ++j)
#pragma unroll
      for (int k = -1; k <= 1; ++k) {
        const float wz = kFlat ? 1 : 2 - j * j, wy = 2 - k * k;
#pragma unroll
        for (int i = 0; i < kCount + 2; ++i) {
          const float v = at[plane + j][line + k][x + i];
          sum[i] = fmaf(v, wz * wy, sum[i]);
          if (k != 0) dy[i] = fmaf(v, wz * k, dy[i]);
          if (j != 0) dz[i] = fmaf(v, wy * j, dz[i]);
        }
      }
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      gx[i] = scales.x * (sum[i + 2] - sum[i]);
      gy[i] = scales.y * (dy[i] + 2 * dy[i + 1] + dy[i + 2]);
      gz[i] = kFlat ? 0 : scales.z * (dz[i] + 2 * dz[i + 1] + dz[i + 2]);
    }
  }
};

__device__ inline float length(float gz, float gy, float gx, float eps) { return sqrtf(eps + gy * gy + gx * gx + gz * gz); }

template <class T, bool kFlat>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(Shape s, const T* image, Axes scales, float eps, bool whole, T* magnitude) {
  __shared__ Image<kFlat, 1> values;
  const Tile<kFlat> at(s);
  values.load(s, at, image);
  if (!at.inside(s)) return;
  float gz[kOwn], gy[kOwn], gx[kOwn];
  values.derivatives(at.z + Tile<kFlat>::kAcross, at.y + 1, kOwn * at.word, scales, gz, gy, gx);
#pragma unroll
  for (int i = 0; i < kOwn; ++i) gx[i] = length(gz[i], gy[i], gx[i], eps);
  store_own(magnitude + at.start + at.place(s), whole, at.own(s), gx);
}

template <class T, bool kFlat>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(Shape s, const T* gradient, const T* image, Axes scales, float eps, bool whole, T* result) {
  using Of = Tile<kFlat>;
  using F = Fold<kFlat>;
  __shared__ Image<kFlat, 2> values;
  __shared__ F fold;
  const Of at(s);
  values.load(s, at, image);
  for (int i = threadIdx.x; i < F::kItems; i += kThreads) {
    const int word = i % Of::kWords, line = i / Of::kWords % F::kLines, plane = i / Of::kWords / F::kLines;
    // Beyond the border: the border's row, with the sign of the derivative across turned.
    const int z = plane - Of::kAcross, zc = clamped(at.z0 + z, s.depth) - at.z0;
    const int y = line - 1, yc = clamped(at.y0 + y, s.height) - at.y0, first = at.x0 + kOwn * word - 1;
    Shares h;
    values.derivatives(zc + 2 * Of::kAcross, yc + 2, kOwn * word, scales, h.z, h.y, h.x);
    const float cy = yc == y ? scales.y : -scales.y, cz = zc == z ? scales.z : -scales.z;
    const T* g = gradient + at.start + (static_cast<int64_t>(at.z0 + zc) * s.height + at.y0 + yc) * s.width;
#pragma unroll
    for (int j = 0; j < kOwn + 2; ++j) {
      const float ratio = widen(g[clamped(first + j, s.width)]) / length(h.z[j], h.y[j], h.x[j], eps);
      h.x[j] *= ratio * scales.x, h.y[j] *= ratio * cy, h.z[j] *= ratio * cz;
    }
    fold.add(h, first, s.width, plane, line, word);
  }
  __syncthreads();
  if (!at.inside(s)) return;
  float sum[kOwn];
  fold.gather(at, sum);
  store_own(result + at.start + at.place(s), whole, at.own(s), sum);
}

}  // namespace

cudaError_t sobel(cudaStream_t stream, Type type, Shape s, const void* image, Axes scales, float eps, void* magnitude) {
  return with_float(type, [&](auto t) {
    using T = decltype(t);
    const bool whole = rows_fit(s, magnitude);
    const auto run = [&](auto kernel, unsigned blocks) {
      kernel<<<blocks, kThreads, 0, stream>>>(s, static_cast<const T*>(image), scales, eps, whole,
                                              static_cast<T*>(magnitude));
    };
    s.flat ? run(forward_kernel<T, true>, Tile<true>::blocks(s)) : run(forward_kernel<T, false>, Tile<false>::blocks(s));
  });
}

cudaError_t sobel_backward(cudaStream_t stream, Type type, Shape s, const void* gradient, const void* image, Axes scales,
                           float eps, void* result) {
  return with_float(type, [&](auto t) {
    using T = decltype(t);
    const bool whole = rows_fit(s, result);
    const auto run = [&](auto kernel, unsigned blocks) {
      kernel<<<blocks, kThreads, 0, stream>>>(s, static_cast<const T*>(gradient), static_cast<const T*>(image), scales,
                                              eps, whole, static_cast<T*>(result));
    };
    s.flat ? run(backward_kernel<T, true>, Tile<true>::blocks(s))
           : run(backward_kernel<T, false>, Tile<false>::blocks(s));
  });
}

}  // namespace gpu
