// The Sobel stencil over tiles: 256 threads, each with four neighbouring voxels of a row.
//
// A border voxel is repeated beyond the border; the transposed stencil then meets, beyond the border, the border's own
// value, with its sign turned for the derivative across that border.
#pragma once
#include "device.cuh"

namespace gpu {

constexpr int kOwn = 4;  // voxels of a thread

__device__ inline int clamped(int i, int64_t size) { return i < 0 ? 0 : i >= size ? static_cast<int>(size) - 1 : i; }

template <bool kFlat> struct Tile {
  static constexpr int kWords = 8, kWidth = kOwn * kWords, kHeight = kFlat ? 32 : 8, kDepth = kFlat ? 1 : 4;
  static constexpr int kAcross = kFlat ? 0 : 1;  // planes of halo along the depth, for each voxel of reach
  static_assert(kWords * kHeight * kDepth == kThreads, "a thread for each word");

  int64_t start;       // of the batch entry, in voxels
  int z0, y0, x0;      // first voxel of the tile
  int z, y, word;      // of this thread, within the tile

  __device__ explicit Tile(const Shape& s) {
    const int nx = (s.width + kWidth - 1) / kWidth, ny = (s.height + kHeight - 1) / kHeight;
    const int nz = (s.depth + kDepth - 1) / kDepth, job = blockIdx.x;
    x0 = job % nx * kWidth, y0 = job / nx % ny * kHeight, z0 = job / nx / ny % nz * kDepth;
    start = static_cast<int64_t>(job / nx / ny / nz) * s.voxels();
    word = threadIdx.x % kWords, y = threadIdx.x / kWords % kHeight, z = threadIdx.x / kWords / kHeight;
  }
  __device__ bool inside(const Shape& s) const { return z0 + z < s.depth && y0 + y < s.height && x0 + kOwn * word < s.width; }
  // Place of the thread's first voxel within its volume.
  __device__ int64_t place(const Shape& s) const {
    return (static_cast<int64_t>(z0 + z) * s.height + y0 + y) * s.width + x0 + kOwn * word;
  }
  __device__ int own(const Shape& s) const { return static_cast<int>(min(s.width - x0 - kOwn * word, int64_t{kOwn})); }

  static unsigned blocks(const Shape& s) {
    return static_cast<unsigned>(s.batch * ((s.depth + kDepth - 1) / kDepth) * ((s.height + kHeight - 1) / kHeight) *
                                 ((s.width + kWidth - 1) / kWidth));
  }
};

// Four voxels of a row, of which `count` exist; `whole` says that addresses are those of vectors.
template <class T> __device__ inline void load_own(const T* from, bool whole, int count, float (&x)[kOwn]) {
  Vector<T, kOwn> raw{};
  if (whole) {
    raw = Vector<T, kOwn>::load(from);
  } else {
#pragma unroll
    for (int i = 0; i < kOwn; ++i)
      if (i < count) raw.at[i] = from[i];
  }
#pragma unroll
  for (int i = 0; i < kOwn; ++i) x[i] = widen(raw.at[i]);
}
template <class T> __device__ inline void store_own(T* to, bool whole, int count, const float (&x)[kOwn]) {
  Vector<T, kOwn> out;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) out.at[i] = narrow<T>(x[i]);
  if (whole) {
    out.store(to);
  } else {
#pragma unroll
    for (int i = 0; i < kOwn; ++i)
      if (i < count) to[i] = out.at[i];
  }
}

// Whether every row begins where a vector of four voxels may.
template <class... Pointers> inline bool rows_fit(const Shape& s, Pointers... pointers) {
  return s.width % kOwn == 0 && (... && (reinterpret_cast<std::uintptr_t>(pointers) % 16 == 0));
}

// Shares of the upstream gradient that derivatives have, at the voxels from one before a thread's to one after.
struct Shares {
  float z[kOwn + 2], y[kOwn + 2], x[kOwn + 2];
};

// Shares summed along the width, for a tile and one row around it.
template <bool kFlat> struct Fold {
  using Of = Tile<kFlat>;
  static constexpr int kPlanes = Of::kDepth + 2 * Of::kAcross, kLines = Of::kHeight + 2;
  static constexpr int kItems = kPlanes * kLines * Of::kWords;
  float4 x[kPlanes][kLines][Of::kWords], y[kPlanes][kLines][Of::kWords];
  float4 z[kFlat ? 1 : kPlanes][kFlat ? 1 : kLines][kFlat ? 1 : Of::kWords];

  // first: the place along the width of h's first entry.
  __device__ void add(Shares& h, int first, int64_t width, int plane, int line, int word) {
    if (first < 0) h.x[0] = -h.x[1], h.y[0] = h.y[1], h.z[0] = h.z[1];
#pragma unroll
    for (int i = 1; i < kOwn + 2; ++i)
      if (first + i == width) h.x[i] = -h.x[i - 1], h.y[i] = h.y[i - 1], h.z[i] = h.z[i - 1];
    x[plane][line][word] = make_float4(h.x[0] - h.x[2], h.x[1] - h.x[3], h.x[2] - h.x[4], h.x[3] - h.x[5]);
    y[plane][line][word] = smoothed(h.y);
    if (!kFlat) z[plane][line][word] = smoothed(h.z);
  }

  // The transposed stencil at a thread's own voxels.
  __device__ void gather(const Of& at, float (&sum)[kOwn]) const {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) sum[i] = 0;
#pragma unroll
    for (int dz = -Of::kAcross; dz <= Of::kAcross; ++dz)
#pragma unroll
      for (int dy = -1; dy <= 1; ++dy) {
        const int plane = at.z + dz + Of::kAcross, line = at.y + dy + 1;
        const float wz = kFlat ? 1 : 2 - dz * dz, wy = 2 - dy * dy;
        add_to(sum, x[plane][line][at.word], wz * wy);
        if (dy != 0) add_to(sum, y[plane][line][at.word], wz * -dy);
        if (dz != 0) add_to(sum, z[plane][line][at.word], wy * -dz);
      }
  }

 private:
  __device__ static float4 smoothed(const float (&h)[kOwn + 2]) {
    return make_float4(h[0] + 2 * h[1] + h[2], h[1] + 2 * h[2] + h[3], h[2] + 2 * h[3] + h[4], h[3] + 2 * h[4] + h[5]);
  }
  __device__ static void add_to(float (&sum)[kOwn], float4 v, float weight) {
    sum[0] = fmaf(v.x, weight, sum[0]), sum[1] = fmaf(v.y, weight, sum[1]);
    sum[2] = fmaf(v.z, weight, sum[2]), sum[3] = fmaf(v.w, weight, sum[3]);
  }
};

}  // namespace gpu
