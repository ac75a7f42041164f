// Magnitude of the Sobel gradient of a one-hot anatomy that is never written, and its gradient: from the label map, class
// by class that is near. Memberships sum to one: the last class has minus the sum of the others' derivatives.
#include "labels.cuh"

namespace gpu {
namespace {

constexpr int kCached = 3;  // classes whose gradients a thread keeps; a tile seldom holds more than one class besides

template <class T, bool kFlat>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(Shape s, const uint8_t* labels, Axes squares, float eps, bool whole, T* magnitude) {
  using L = Labels<kFlat, 1>;
  __shared__ L tile;
  const Tile<kFlat> at(s);
  int sz[kOwn] = {}, sy[kOwn] = {}, sx[kOwn] = {};
  if (tile.load(s, at, labels, whole)) {
    const int plane = at.z + Tile<kFlat>::kAcross, line = at.y + 1, word = at.word + 1;
    int tz[kOwn] = {}, ty[kOwn] = {}, tx[kOwn] = {};
    const auto take = [&](int i, int gz, int gy, int gx) {
      sz[i] += gz * gz, sy[i] += gy * gy, sx[i] += gx * gx;
      tz[i] -= gz, ty[i] -= gy, tx[i] -= gx;
    };
    for (int k = tile.next(-1), after = tile.next(k); after != L::kNone; k = after, after = tile.next(k)) {
      const Sums m = sums_of(tile, plane, line, word, k);
      // Bytes of the voxels before and after each of the four.
      const auto before = [](const uint32_t(&w)[3]) { return __byte_perm(w[0], w[1], 0x6543); };
      const auto behind = [](const uint32_t(&w)[3]) { return __byte_perm(w[1], w[2], 0x4321); };
      const uint32_t gx = difference(before(m.s), behind(m.s)), gy = smoothed(before(m.dy), m.dy[1], behind(m.dy));
      const uint32_t gz = kFlat ? 0x40404040u : smoothed(before(m.dz), m.dz[1], behind(m.dz));
#pragma unroll
      for (int i = 0; i < kOwn; ++i) take(i, number(gz, i), number(gy, i), number(gx, i));
    }
#pragma unroll
    for (int i = 0; i < kOwn; ++i) take(i, tz[i], ty[i], tx[i]);
  }
  if (!at.inside(s)) return;
  float result[kOwn];
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    float sum = eps + squares.y * static_cast<float>(sy[i]);
    sum += squares.x * static_cast<float>(sx[i]);
    if (!kFlat) sum += squares.z * static_cast<float>(sz[i]);
    result[i] = sqrtf(sum);
  }
  store_own(magnitude + at.start + at.place(s), whole, at.own(s), result);
}

template <bool kFlat> struct Work {
  using Of = Tile<kFlat>;
  static constexpr int kPlanes = Of::kDepth + 2 * Of::kAcross, kLines = Of::kHeight + 2, kSpan = Of::kWidth + 2;
  Labels<kFlat, 2> labels;
  Fold<kFlat> fold;
  float ratio[kPlanes][kLines][kSpan];  // upstream gradient over magnitude, one voxel around the tile

  template <class T> __device__ void load_ratio(const Shape& s, const Of& at, const T* gradient, const T* magnitude) {
    float* all = &ratio[0][0][0];
    for (int i = threadIdx.x; i < kPlanes * kLines * kSpan; i += kThreads) {
      const int z = at.z0 + i / kSpan / kLines - Of::kAcross, y = at.y0 + i / kSpan % kLines - 1;
      const int x = at.x0 + i % kSpan - 1;
      const bool exists = z >= 0 && y >= 0 && x >= 0 && z < s.depth && y < s.height && x < s.width;
      const int64_t place = at.start + (static_cast<int64_t>(z) * s.height + y) * s.width + x;
      all[i] = exists ? widen(gradient[place]) / widen(magnitude[place]) : 0.0f;
    }
  }

  // Gradient with respect to a thread's memberships of class k. All threads take part.
  __device__ void pull(const Shape& s, const Of& at, Axes squares, int k, float (&sum)[kOwn]) {
    __syncthreads();
    for (int i = threadIdx.x; i < Fold<kFlat>::kItems; i += kThreads) {
      const int word = i % Of::kWords, line = i / Of::kWords % kLines, plane = i / Of::kWords / kLines;
      // Beyond the border: the border's row, with the sign of the derivative across turned.
      const int z = plane - Of::kAcross, zc = clamped(at.z0 + z, s.depth) - at.z0;
      const int y = line - 1, yc = clamped(at.y0 + y, s.height) - at.y0;
      const Sums m = sums_of(labels, zc + 2 * Of::kAcross, yc + 2, word + 1, k);
      const float cy = yc == y ? squares.y : -squares.y, cz = zc == z ? squares.z : -squares.z;
      Shares h;
      // The voxels -1 to 2 of the thread's four, then 3 and 4: their bytes, and those before and behind them.
      const auto early = [](const uint32_t(&w)[3], uint32_t by) { return __byte_perm(w[0], w[1], by); };
      const auto late = [](const uint32_t(&w)[3], uint32_t by) { return __byte_perm(w[1], w[2], by); };
      constexpr uint32_t kBefore = 0x5432, kAt = 0x6543, kBehind = 0x7654;
      const auto smooth = [&](const uint32_t(&w)[3], auto of) {
        return smoothed(of(w, kBefore), of(w, kAt), of(w, kBehind));
      };
      const uint32_t gx[2] = {difference(early(m.s, kBefore), early(m.s, kBehind)),
                              difference(late(m.s, kBefore), late(m.s, kBehind))};
      const uint32_t gy[2] = {smooth(m.dy, early), smooth(m.dy, late)};
      const uint32_t gz[2] = {smooth(m.dz, early), smooth(m.dz, late)};
#pragma unroll
      for (int j = 0; j < kOwn + 2; ++j) {
        const float r = ratio[zc + Of::kAcross][yc + 1][kOwn * word + j];
        h.x[j] = r * (squares.x * static_cast<float>(number(gx[j / 4], j % 4)));
        h.y[j] = r * (cy * static_cast<float>(number(gy[j / 4], j % 4)));
        h.z[j] = kFlat ? 0 : r * (cz * static_cast<float>(number(gz[j / 4], j % 4)));
      }
      fold.add(h, at.x0 + kOwn * word - 1, s.width, plane, line, word);
    }
    __syncthreads();
    fold.gather(at, sum);
  }
};

template <class T, bool kFlat>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(Shape s, const T* gradient, const T* magnitude, const uint8_t* labels, const T* logits, Axes squares,
                    float temperature, bool whole, T* result) {
  using W = Work<kFlat>;
  constexpr int kNone = Labels<kFlat, 2>::kNone;
  __shared__ W work;
  const Tile<kFlat> at(s);
  const int classes = static_cast<int>(s.channels), own = at.own(s);
  const bool inside = at.inside(s);
  const int64_t voxels = s.voxels(), start = at.start * classes + at.place(s);
  if (!work.labels.load(s, at, labels, whole)) {
    const float zero[kOwn] = {};
    if (inside)
      for (int k = 0; k < classes; ++k) store_own(result + start + k * voxels, whole, own, zero);
    return;
  }
  work.load_ratio(s, at, gradient, magnitude);
  float cached[kCached][kOwn], rest[kOwn] = {};
  int id[kCached] = {-1, -1, -1}, last = work.labels.next(-1);
  bool reached = false;
  for (int after = work.labels.next(last), n = 0; after != kNone; last = after, after = work.labels.next(last), ++n) {
    float sum[kOwn];
    work.pull(s, at, squares, last, sum);
#pragma unroll
    for (int j = 0; j < kCached; ++j)
      if (j == n) id[j] = last;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      rest[i] -= sum[i];
      reached |= sum[i] != 0;
#pragma unroll
      for (int j = 0; j < kCached; ++j)
        if (j == n) cached[j][i] = sum[i];
    }
  }
  // All threads ask for the same class: one that is not kept is worked out again.
  const auto towards = [&](int k, float (&sum)[kOwn]) {
    bool kept = k == last;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) sum[i] = k == last ? rest[i] : 0.0f;
#pragma unroll
    for (int j = 0; j < kCached; ++j)
      if (k == id[j]) {
        kept = true;
#pragma unroll
        for (int i = 0; i < kOwn; ++i) sum[i] = cached[j][i];
      }
    if (!kept && work.labels.holds(k)) work.pull(s, at, squares, k, sum);
  };
  const float scale = 1.0f / temperature;
  Softmax softmax[kOwn];
  for (int pass = 0; pass < 2; ++pass) {
    for (int k = 0; k < classes; ++k) {
      float sum[kOwn], x[kOwn] = {};
      towards(k, sum);
      if (!inside) continue;
      if (reached) load_own(logits + start + k * voxels, whole, own, x);
#pragma unroll
      for (int i = 0; i < kOwn; ++i) {
        if (pass == 0)
          softmax[i].add(x[i] * scale, sum[i]);
        else
          x[i] = reached ? softmax[i].gradient(x[i] * scale, sum[i]) * scale : 0.0f;
      }
      if (pass == 1) store_own(result + start + k * voxels, whole, own, x);
    }
    if (pass == 0) {
#pragma unroll
      for (int i = 0; i < kOwn; ++i) softmax[i].close();
    }
  }
}

}  // namespace

cudaError_t edge_magnitude(cudaStream_t stream, Type type, Shape s, const uint8_t* labels, Axes squares, float eps,
                           void* magnitude) {
  return with_float(type, [&](auto t) {
    using T = decltype(t);
    const bool whole = rows_fit(s, labels, magnitude);
    const auto run = [&](auto kernel, unsigned blocks) {
      kernel<<<blocks, kThreads, 0, stream>>>(s, labels, squares, eps, whole, static_cast<T*>(magnitude));
    };
    s.flat ? run(forward_kernel<T, true>, Tile<true>::blocks(s)) : run(forward_kernel<T, false>, Tile<false>::blocks(s));
  });
}

cudaError_t edge_magnitude_backward(cudaStream_t stream, Type type, Shape s, const void* gradient, const void* magnitude,
                                    const uint8_t* labels, const void* logits, Axes squares, float temperature,
                                    void* result) {
  return with_float(type, [&](auto t) {
    using T = decltype(t);
    const bool whole = rows_fit(s, labels, logits, result);
    const auto run = [&](auto kernel, unsigned blocks) {
      kernel<<<blocks, kThreads, 0, stream>>>(s, static_cast<const T*>(gradient), static_cast<const T*>(magnitude),
                                              labels, static_cast<const T*>(logits), squares, temperature, whole,
                                              static_cast<T*>(result));
    };
    s.flat ? run(backward_kernel<T, true>, Tile<true>::blocks(s))
           : run(backward_kernel<T, false>, Tile<false>::blocks(s));
  });
}

}  // namespace gpu
