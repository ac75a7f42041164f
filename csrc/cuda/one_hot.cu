// Label map, and the differentiable one-hot with or without Gumbel noise.
#include "device.cuh"
#include "philox.cuh"

namespace gpu {
namespace {

constexpr int kGroup = 4;  // classes that share a counter of the noise
constexpr int kMostInRegisters = 10;

template <class T> constexpr int kWidest = 16 / sizeof(T);

// Largest score of each of kCount voxels: the first on ties; comparisons with NaN fail.
template <int kCount> struct Largest {
  float best[kCount];
  int label[kCount];
  __device__ void add(int i, int k, float x) {
    const bool better = k == 0 || x > best[i];
    best[i] = better ? x : best[i];
    label[i] = better ? k : label[i];
  }
};

template <class T, int kCount> __global__ void label_map_kernel(Shape s, const T* logits, uint8_t* labels) {
  const Place p = place_of<kCount>(s);
  if (!p.inside) return;
  const int64_t voxels = s.voxels();
  const T* row = logits + p.batch * s.channels * voxels + p.voxel;
  Largest<kCount> largest;
  const int classes = static_cast<int>(s.channels);
#pragma unroll 8
  for (int k = 0; k < classes; ++k, row += voxels) {
    const auto x = Vector<T, kCount>::load(row);
#pragma unroll
    for (int i = 0; i < kCount; ++i) largest.add(i, k, widen(x.at[i]));
  }
  Vector<uint8_t, kCount> label;
#pragma unroll
  for (int i = 0; i < kCount; ++i) label.at[i] = static_cast<uint8_t>(largest.label[i]);
  label.store(labels + p.batch * voxels + p.voxel);
}

// Scores of kGroup classes, with their noise; those that do not exist are left alone.
template <class T, int kCount, bool kNoisy>
__device__ inline void scores_of(const T* row, int64_t voxels, int exist, uint64_t seed, uint64_t voxel, int group,
                                 float (&x)[kGroup][kCount]) {
  Vector<T, kCount> raw[kGroup];
#pragma unroll
  for (int j = 0; j < kGroup; ++j)
    if (j < exist) raw[j] = Vector<T, kCount>::load(row + j * voxels);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    uint32_t word[kGroup];
    if (kNoisy) philox(seed, voxel + i, group, common::kGumbelStream, word);
#pragma unroll
    for (int j = 0; j < kGroup; ++j)
      if (j < exist) x[j][i] = widen(raw[j].at[i]) + (kNoisy ? common::gumbel(word[j]) : 0.0f);
  }
}

template <class T, int kCount, bool kNoisy>
__global__ void one_hot_kernel(Shape s, const T* logits, uint64_t seed, T* one_hot) {
  const Place p = place_of<kCount>(s);
  if (!p.inside) return;
  const int64_t voxels = s.voxels(), start = p.batch * s.channels * voxels + p.voxel;
  const int classes = static_cast<int>(s.channels);
  Largest<kCount> largest;
#pragma unroll 1
  for (int first = 0; first < classes; first += kGroup) {
    float x[kGroup][kCount];
    const uint64_t voxel = p.batch * voxels + p.voxel;
    scores_of<T, kCount, kNoisy>(logits + start + first * voxels, voxels, classes - first, seed, voxel, first / kGroup,
                                 x);
#pragma unroll
    for (int j = 0; j < kGroup; ++j)
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        if (first + j < classes) largest.add(i, first + j, x[j][i]);
  }
  T* out = one_hot + start;
  for (int k = 0; k < classes; ++k, out += voxels) {
    Vector<T, kCount> member;
#pragma unroll
    for (int i = 0; i < kCount; ++i) member.at[i] = narrow<T>(largest.label[i] == k ? 1.0f : 0.0f);
    member.store(out);
  }
}

template <class T, int kCount> __device__ inline void load_wide(const T* from, float (&x)[kCount]) {
  const auto raw = Vector<T, kCount>::load(from);
#pragma unroll
  for (int i = 0; i < kCount; ++i) x[i] = widen(raw.at[i]);
}

// Up to kMost classes stay in registers; the softmax takes the largest score away first. Pointers walk from class to
// class: offsets to each of them would not fit beside the scores.
template <class T, int kCount, int kMost>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(Shape s, const T* gradient, const T* logits, float temperature, T* result) {
  const Place p = place_of<kCount>(s);
  if (!p.inside) return;
  const int64_t voxels = s.voxels(), start = p.batch * s.channels * voxels + p.voxel;
  const int classes = static_cast<int>(s.channels);
  const float scale = 1.0f / temperature;
  logits += start, gradient += start, result += start;
  float x[kMost][kCount];
  Vector<T, kCount> g[kMost];
#pragma unroll
  for (int k = 0; k < kMost; ++k)
    if (k < classes) {
      load_wide(logits, x[k]);
      g[k] = Vector<T, kCount>::load(gradient);
      logits += voxels, gradient += voxels;
    }
  float top[kCount], total[kCount] = {}, dot[kCount] = {};
#pragma unroll
  for (int k = 0; k < kMost; ++k)
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      if (k < classes) {
        const float score = x[k][i];
        top[i] = k == 0 || score > top[i] || score != score ? score : top[i];
      }
#pragma unroll
  for (int k = 0; k < kMost; ++k)
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      if (k < classes) {
        x[k][i] = __expf((x[k][i] - top[i]) * scale);
        total[i] += x[k][i];
        dot[i] = fmaf(x[k][i], widen(g[k].at[i]), dot[i]);
      }
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    dot[i] /= total[i];
    total[i] = scale / total[i];
  }
#pragma unroll
  for (int k = 0; k < kMost; ++k)
    if (k < classes) {
      Vector<T, kCount> out;
#pragma unroll
      for (int i = 0; i < kCount; ++i) out.at[i] = narrow<T>(x[k][i] * total[i] * (widen(g[k].at[i]) - dot[i]));
      out.store(result);
      result += voxels;
    }
}

// More classes: one pass finds the sums, another reads again, from the cache, and writes.
template <class T, int kCount, bool kNoisy>
__global__ void many_backward_kernel(Shape s, const T* gradient, const T* logits, float temperature, uint64_t seed,
                                     T* result) {
  const Place p = place_of<kCount>(s);
  if (!p.inside) return;
  const int64_t voxels = s.voxels(), start = p.batch * s.channels * voxels + p.voxel;
  const int classes = static_cast<int>(s.channels);
  const float scale = 1.0f / temperature;
  Softmax softmax[kCount];
  const auto visit = [&](auto act) {
    for (int first = 0; first < classes; first += kGroup) {
      float x[kGroup][kCount];
      const int64_t at = start + first * voxels;
      scores_of<T, kCount, kNoisy>(logits + at, voxels, classes - first, seed, p.batch * voxels + p.voxel,
                                   first / kGroup, x);
#pragma unroll
      for (int j = 0; j < kGroup; ++j)
        if (first + j < classes) act(at + j * voxels, x[j], Vector<T, kCount>::load(gradient + at + j * voxels));
    }
  };
  visit([&](int64_t, const float(&x)[kCount], const Vector<T, kCount>& g) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) softmax[i].add(x[i] * scale, widen(g.at[i]));
  });
#pragma unroll
  for (int i = 0; i < kCount; ++i) softmax[i].close();
  visit([&](int64_t at, const float(&x)[kCount], const Vector<T, kCount>& g) {
    Vector<T, kCount> out;
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      out.at[i] = narrow<T>(softmax[i].gradient(x[i] * scale, widen(g.at[i])) * scale);
    out.store(result + at);
  });
}

template <class T, int kCount> unsigned blocks(const Shape& s) { return blocks_of(s.batch * (s.voxels() / kCount)); }

}  // namespace

cudaError_t label_map(cudaStream_t stream, Type type, Shape s, const void* logits, uint8_t* labels) {
  return with_float(type, [&](auto t) {
    using T = decltype(t);
    constexpr int kCount = kWidest<T>;
    const T* x = static_cast<const T*>(logits);
    if (vectors_fit<kCount>(s, logits, labels))
      label_map_kernel<T, kCount><<<blocks<T, kCount>(s), kThreads, 0, stream>>>(s, x, labels);
    else
      label_map_kernel<T, 1><<<blocks<T, 1>(s), kThreads, 0, stream>>>(s, x, labels);
  });
}

cudaError_t one_hot_argmax(cudaStream_t stream, Type type, Shape s, const void* logits, Gumbel gumbel, void* one_hot) {
  return with_float(type, [&](auto t) {
    using T = decltype(t);
    constexpr int kCount = kWidest<T>;
    const T* x = static_cast<const T*>(logits);
    T* out = static_cast<T*>(one_hot);
    const auto launch = [&](auto kernel, unsigned count) {
      kernel<<<count, kThreads, 0, stream>>>(s, x, gumbel.seed, out);
    };
    if (gumbel.on)  // bound by arithmetic, not by memory
      launch(one_hot_kernel<T, 1, true>, blocks<T, 1>(s));
    else if (vectors_fit<kCount>(s, logits, one_hot))
      launch(one_hot_kernel<T, kCount, false>, blocks<T, kCount>(s));
    else
      launch(one_hot_kernel<T, 1, false>, blocks<T, 1>(s));
  });
}

cudaError_t one_hot_argmax_backward(cudaStream_t stream, Type type, Shape s, const void* gradient, const void* logits,
                                    float temperature, Gumbel gumbel, void* result) {
  return with_float(type, [&](auto t) {
    using T = decltype(t);
    const T *g = static_cast<const T*>(gradient), *x = static_cast<const T*>(logits);
    T* out = static_cast<T*>(result);
    const auto few = [&](auto kernel, unsigned count) {
      kernel<<<count, kThreads, 0, stream>>>(s, g, x, temperature, out);
    };
    const auto many = [&](auto kernel, unsigned count) {
      kernel<<<count, kThreads, 0, stream>>>(s, g, x, temperature, gumbel.seed, out);
    };
    constexpr int kCount = 4;  // more would not fit the registers
    const bool fit = vectors_fit<kCount>(s, gradient, logits, result);
    const unsigned wide = blocks<T, kCount>(s), single = blocks<T, 1>(s);
    if (gumbel.on)
      many(many_backward_kernel<T, 1, true>, single);
    else if (s.channels > kMostInRegisters)
      fit ? many(many_backward_kernel<T, kCount, false>, wide) : many(many_backward_kernel<T, 1, false>, single);
    else if (s.channels > 4)
      fit ? few(backward_kernel<T, 2, kMostInRegisters>, blocks<T, 2>(s))
          : few(backward_kernel<T, 1, kMostInRegisters>, single);
    else
      fit ? few(backward_kernel<T, kCount, 4>, wide) : few(backward_kernel<T, 1, 4>, single);
  });
}

}  // namespace gpu
