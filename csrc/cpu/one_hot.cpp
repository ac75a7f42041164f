// Label map, and the differentiable one-hot with or without Gumbel noise.
#include <vector>

#include "classes.h"
#include "philox.h"

namespace ANATOMAD_LEVEL {
namespace {

constexpr int64_t kRun = 1024;  // label map: long enough for the hardware to read ahead in every class

int64_t blocks_of(Shape s, int64_t size) { return (s.voxels() + size - 1) / size; }

// Scores with noise, [classes][kBlock]: class 4 j + r of a voxel is word r of its counter's block j.
template <class T>
void noisy(const T* logits, int64_t stride, int classes, int n, uint64_t seed, uint64_t voxel, float (*out)[kBlock]) {
  for (int first = 0; first < classes; first += 4) {
    for (int i = 0; i < n; i += kLanes) {
      uint32_t word[4][kLanes];
      philox(seed, voxel + i, first / 4, kGumbelStream, word);
      for (int k = first; k < std::min(first + 4, classes); ++k) {
        const T* row = logits + k * stride + i;
        float* scores = out[k] + i;
        float noise[kLanes];
#pragma omp simd
        for (int j = 0; j < kLanes; ++j) noise[j] = gumbel(word[k - first][j]);
        if (n - i >= kLanes) {
          for (int j = 0; j < kLanes; ++j) scores[j] = widen(row[j]) + noise[j];
        } else {
          for (int j = 0; j < n - i; ++j) scores[j] = widen(row[j]) + noise[j];
        }
      }
    }
  }
}

template <class T> void label_map_of(Shape s, const T* logits, uint8_t* labels) {
  const int64_t voxels = s.voxels(), runs = blocks_of(s, kRun);
#pragma omp parallel for num_threads(s.threads)
  for (int64_t job = 0; job < s.batch * runs; ++job) {
    const int64_t b = job / runs, start = job % runs * kRun;
    const int n = static_cast<int>(std::min(kRun, voxels - start));
    const T* scores = logits + b * s.channels * voxels + start;
    float best[kRun];
    int32_t label[kRun];
    for (int i = 0; i < n; ++i) best[i] = widen(scores[i]), label[i] = 0;
    for (int k = 1; k < s.channels; ++k) {
      const T* row = scores + k * voxels;
#pragma omp simd
      for (int i = 0; i < n; ++i) {
        const float x = widen(row[i]);
        const bool better = x > best[i];
        best[i] = better ? x : best[i];
        label[i] = better ? k : label[i];
      }
    }
    uint8_t* out = labels + b * voxels + start;
    for (int i = 0; i < n; ++i) out[i] = static_cast<uint8_t>(label[i]);
  }
}

template <class T> void forward(Shape s, const T* logits, Gumbel gumbel, T* one_hot) {
  const int64_t voxels = s.voxels(), blocks = blocks_of(s, kBlock);
  const int classes = static_cast<int>(s.channels);
  T one;
  narrow(1.0f, one);
#pragma omp parallel num_threads(s.threads)
  {
    std::vector<float> space(gumbel.on ? classes * kBlock : 0);
    auto scores = reinterpret_cast<float(*)[kBlock]>(space.data());
#pragma omp for
    for (int64_t job = 0; job < s.batch * blocks; ++job) {
      const int64_t b = job / blocks, start = job % blocks * kBlock;
      const int n = static_cast<int>(std::min<int64_t>(kBlock, voxels - start));
      const T* from = logits + b * classes * voxels + start;
      int32_t label[kBlock];
      if (gumbel.on) {
        noisy(from, voxels, classes, n, gumbel.seed, b * voxels + start, scores);
        largest(scores[0], kBlock, classes, n, label);
      } else {
        largest(from, voxels, classes, n, label);
      }
      T* out = one_hot + b * classes * voxels + start;
      for (int k = 0; k < classes; ++k, out += voxels) {
#pragma omp simd
        for (int i = 0; i < n; ++i) out[i] = label[i] == k ? one : T{};
      }
    }
  }
}

template <class T>
void backward(Shape s, const T* gradient, const T* logits, float temperature, Gumbel gumbel, T* result) {
  const int64_t voxels = s.voxels(), blocks = blocks_of(s, kBlock);
  const int classes = static_cast<int>(s.channels);
#pragma omp parallel num_threads(s.threads)
  {
    std::vector<float> space(2 * classes * kBlock);
    auto e = reinterpret_cast<float(*)[kBlock]>(space.data());
    auto scores = e + classes;
    std::vector<const T*> upstream(classes);
#pragma omp for
    for (int64_t job = 0; job < s.batch * blocks; ++job) {
      const int64_t start = job / blocks * classes * voxels + job % blocks * kBlock;
      const int64_t voxel = job / blocks * voxels + job % blocks * kBlock;
      const int n = static_cast<int>(std::min(voxels - job % blocks * kBlock, int64_t{kBlock}));
      for (int k = 0; k < classes; ++k) upstream[k] = gradient + start + k * voxels;
      if (gumbel.on) {
        noisy(logits + start, voxels, classes, n, gumbel.seed, voxel, scores);
        softmax_gradient(scores[0], kBlock, upstream.data(), classes, n, temperature, e, result + start, voxels);
      } else {
        softmax_gradient(logits + start, voxels, upstream.data(), classes, n, temperature, e, result + start, voxels);
      }
    }
  }
}

}  // namespace

void label_map(Type type, Shape s, const void* logits, uint8_t* labels) {
  with_float(type, [&](auto t) { label_map_of(s, static_cast<const decltype(t)*>(logits), labels); });
}

void one_hot_argmax(Type type, Shape s, const void* logits, Gumbel gumbel, void* one_hot) {
  with_float(type, [&](auto t) {
    using T = decltype(t);
    forward(s, static_cast<const T*>(logits), gumbel, static_cast<T*>(one_hot));
  });
}

void one_hot_argmax_backward(Type type, Shape s, const void* gradient, const void* logits, float temperature,
                             Gumbel gumbel, void* result) {
  with_float(type, [&](auto t) {
    using T = decltype(t);
    backward(s, static_cast<const T*>(gradient), static_cast<const T*>(logits), temperature, gumbel,
             static_cast<T*>(result));
  });
}

}  // namespace ANATOMAD_LEVEL
