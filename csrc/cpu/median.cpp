// Exact median of each voxel's window: its bits are found from the highest down. A value with a bit set is kept if no
// more than half of the window lies below it, which is a comparison and a sum over the window, many voxels at a time.
// Bits that all values around share are not searched.
#include <bit>

#include "stencil.h"

namespace ANATOMAD_LEVEL {
namespace {

constexpr int kLargest = 7;
#if defined(__AVX512BW__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif

template <class T> using Vector __attribute__((vector_size(kBytes))) = T;
template <class T> constexpr int kWidth = kBytes / static_cast<int>(sizeof(T));

template <class T, int kSize, bool kFlat> struct Window {
  static constexpr int kLines = kFlat ? kSize : kSize * kSize;
  static constexpr int kRank = kLines * kSize / 2;
  T line[kLines][kWidth<T> + kLargest];

  Vector<T> median(T low, T high) const {
    const int top = std::bit_width(static_cast<unsigned>(low ^ high)) - 1;
    const T shared = static_cast<T>(low & ~((2u << top) - 1));
    Vector<T> prefix = Vector<T>{} + shared;
    for (int bit = top; bit >= 0; --bit) {
      const Vector<T> candidate = prefix | static_cast<T>(1u << bit);
      Vector<T> below{};
      for (int j = 0; j < kLines; ++j)
        for (int dx = 0; dx < kSize; ++dx) {
          Vector<T> value;
          __builtin_memcpy(&value, line[j] + dx, kBytes);
          below -= reinterpret_cast<Vector<T>>(value < candidate);
        }
      const Vector<T> keep = reinterpret_cast<Vector<T>>(below <= static_cast<T>(kRank));
      prefix = (keep & candidate) | (~keep & prefix);
    }
    return prefix;
  }
};

// Counts must not wrap: bytes hold windows of up to 255 values.
template <class T, int kSize, bool kFlat>
using Counted = std::conditional_t<(Window<T, kSize, kFlat>::kLines * kSize > 255), uint16_t, T>;

template <class T, int kSize, bool kFlat> void filter(Shape s, const T* score, T* result) {
  using C = Counted<T, kSize, kFlat>;
  using W = Window<C, kSize, kFlat>;
  constexpr int kRadius = kSize / 2;
  const int64_t rows = s.depth * s.height;
#pragma omp parallel for num_threads(s.threads) schedule(dynamic, 64)
  for (int64_t job = 0; job < s.batch * rows; ++job) {
    const int64_t z = job % rows / s.height, y = job % s.height;
    const T* volume = score + job / rows * s.voxels();
    for (int64_t x0 = 0; x0 < s.width; x0 += kWidth<C>) {
      const int n = static_cast<int>(std::min<int64_t>(kWidth<C>, s.width - x0));
      W window;
      C low = score[job * s.width + x0], high = low;
      for (int j = 0; j < W::kLines; ++j) {
        const int64_t zj = clamped(kFlat ? z : z + j / kSize - kRadius, s.depth);
        const int64_t yj = clamped(y + j % kSize - kRadius, s.height);
        C* line = window.line[j];
        copy_row(volume + (zj * s.height + yj) * s.width, x0, n, kRadius, s.width, line, kWidth<C> + kLargest);
        for (int i = 0; i < kWidth<C> + kLargest; ++i) {
          low = line[i] < low ? line[i] : low;
          high = line[i] > high ? line[i] : high;
        }
      }
      T* out = result + job * s.width + x0;
      if (low == high) {
        std::fill_n(out, n, static_cast<T>(low));
        continue;
      }
      const Vector<C> found = window.median(low, high);
      for (int i = 0; i < n; ++i) out[i] = static_cast<T>(found[i]);
    }
  }
}

template <class T> void sized(Shape s, const void* score, int size, void* result) {
  const auto run = [&](auto three_d, auto two_d) {
    (s.flat ? two_d : three_d)(s, static_cast<const T*>(score), static_cast<T*>(result));
  };
  switch (size) {
    case 1: return run(filter<T, 1, false>, filter<T, 1, true>);
    case 3: return run(filter<T, 3, false>, filter<T, 3, true>);
    case 5: return run(filter<T, 5, false>, filter<T, 5, true>);
    default: return run(filter<T, 7, false>, filter<T, 7, true>);
  }
}

}  // namespace

void median(Type type, Shape s, const void* score, int size, void* result) {
  (type == Type::u8 ? sized<uint8_t> : sized<uint16_t>)(s, score, size, result);
}

}  // namespace ANATOMAD_LEVEL
