// Magnitude of the Sobel gradient of a one-hot anatomy that is never written: from the label map, class by class that is
// near. Memberships are 0 or 1, so that derivatives are small whole numbers (at most 16) and their squares fit 16 bits.
#include <cmath>

#include "classes.h"
#include "stencil.h"

namespace ANATOMAD_LEVEL {
namespace {

constexpr int kBytes = 64;    // labels that are worked on together: one vector of the highest level
constexpr int kPiece = 62;    // voxels of a row that have both neighbours among them
constexpr int kPad = kBytes;  // room for what a whole vector reads beyond
constexpr int kStrip = 32;    // rows that share the copies of their neighbours
template <bool kFlat> constexpr int kLines = kFlat ? 3 : 9;  // rows under the stencil, [depth][height]

// Derivatives of class k at [0, wide), wide a multiple of kBytes: out[i] is centred at input i + 1; the last two are void.
template <bool kFlat>
inline void derivatives(const uint8_t* const* line, uint8_t k, int wide, int8_t* gx, int8_t* gy, int8_t* gz) {
  alignas(64) int8_t s[kRowSpace + kPad], dy[kRowSpace + kPad], dz[kRowSpace + kPad];
  for (int from = 0; from < wide; from += kBytes)
#pragma omp simd
    for (int i = from; i < from + kBytes; ++i) {
      if (kFlat) {
        const int8_t a = line[0][i] == k, b = line[1][i] == k, c = line[2][i] == k;
        s[i] = static_cast<int8_t>(a + 2 * b + c);
        dy[i] = static_cast<int8_t>(c - a);
      } else {
        const int8_t a0 = line[0][i] == k, a1 = line[1][i] == k, a2 = line[2][i] == k;
        const int8_t b0 = line[3][i] == k, b1 = line[4][i] == k, b2 = line[5][i] == k;
        const int8_t c0 = line[6][i] == k, c1 = line[7][i] == k, c2 = line[8][i] == k;
        const int8_t a = static_cast<int8_t>(a0 + 2 * a1 + a2), b = static_cast<int8_t>(b0 + 2 * b1 + b2);
        const int8_t c = static_cast<int8_t>(c0 + 2 * c1 + c2);
        s[i] = static_cast<int8_t>(a + 2 * b + c);
        dz[i] = static_cast<int8_t>(c - a);
        dy[i] = static_cast<int8_t>((a2 - a0) + 2 * (b2 - b0) + (c2 - c0));
      }
    }
  for (int from = 0; from < wide; from += kBytes)
#pragma omp simd
    for (int i = from; i < from + kBytes; ++i) {
      gx[i] = static_cast<int8_t>(s[i + 2] - s[i]);
      gy[i] = static_cast<int8_t>(dy[i] + 2 * dy[i + 1] + dy[i + 2]);
      if (!kFlat) gz[i] = static_cast<int8_t>(dz[i] + 2 * dz[i + 1] + dz[i + 2]);
    }
}

// Smallest and largest label under the stencil.
template <int kCount> inline void extremes(const uint8_t* const* line, uint8_t& low, uint8_t& high) {
  alignas(64) uint8_t least[kBytes], most[kBytes];
#pragma omp simd
  for (int i = 0; i < kBytes; ++i) {
    uint8_t a = line[0][i], b = a;
    for (int j = 1; j < kCount; ++j) {
      const uint8_t l = line[j][i];
      a = l < a ? l : a;
      b = l > b ? l : b;
    }
    least[i] = a;
    most[i] = b;
  }
  uint8_t a = 255, b = 0;
#pragma omp simd reduction(min : a) reduction(max : b)
  for (int i = 0; i < kBytes; ++i) {
    a = least[i] < a ? least[i] : a;
    b = most[i] > b ? most[i] : b;
  }
  low = a;
  high = b;
}

// The smallest label above `last`.
template <int kCount> inline uint8_t next_label(const uint8_t* const* line, uint8_t last) {
  uint8_t found = 255;
#pragma omp simd reduction(min : found)
  for (int i = 0; i < kBytes; ++i) {
    uint8_t a = 255;
    for (int j = 0; j < kCount; ++j) {
      const uint8_t l = line[j][i];
      const uint8_t candidate = l > last ? l : 255;
      a = candidate < a ? candidate : a;
    }
    found = a < found ? a : found;
  }
  return found;
}

template <class T, bool kFlat>
void magnitude_piece(const uint8_t* const* line, int n, const float (&c)[3], float eps, T* out) {
  uint8_t low, high;
  extremes<kLines<kFlat>>(line, low, high);
  if (low == high) {
    T flat;
    narrow(std::sqrt(eps), flat);
    std::fill_n(out, n, flat);
    return;
  }
  alignas(64) int16_t sx[kBytes] = {}, sy[kBytes] = {}, sz[kBytes] = {};
  alignas(64) int8_t tx[kBytes] = {}, ty[kBytes] = {}, tz[kBytes] = {};
  for (uint8_t k = low; k != high; k = next_label<kLines<kFlat>>(line, k)) {
    alignas(64) int8_t gx[kBytes], gy[kBytes], gz[kBytes];
    derivatives<kFlat>(line, k, kBytes, gx, gy, gz);
#pragma omp simd
    for (int i = 0; i < kBytes; ++i) {
      sx[i] = static_cast<int16_t>(sx[i] + static_cast<int16_t>(gx[i]) * static_cast<int16_t>(gx[i]));
      sy[i] = static_cast<int16_t>(sy[i] + static_cast<int16_t>(gy[i]) * static_cast<int16_t>(gy[i]));
      if (!kFlat) sz[i] = static_cast<int16_t>(sz[i] + static_cast<int16_t>(gz[i]) * static_cast<int16_t>(gz[i]));
    }
#pragma omp simd
    for (int i = 0; i < kBytes; ++i) {
      tx[i] = static_cast<int8_t>(tx[i] + gx[i]);
      ty[i] = static_cast<int8_t>(ty[i] + gy[i]);
      if (!kFlat) tz[i] = static_cast<int8_t>(tz[i] + gz[i]);
    }
  }
  // Memberships sum to one: the last class has minus the sum of the others' derivatives.
  alignas(64) T result[kBytes];
#pragma omp simd
  for (int i = 0; i < kBytes; ++i) {
    float sum = eps + c[1] * static_cast<float>(sy[i] + ty[i] * ty[i]);
    sum += c[2] * static_cast<float>(sx[i] + tx[i] * tx[i]);
    if (!kFlat) sum += c[0] * static_cast<float>(sz[i] + tz[i] * tz[i]);
    narrow(std::sqrt(sum), result[i]);
  }
  std::copy_n(result, n, out);
}

template <class T, bool kFlat>
void forward(Shape s, const uint8_t* labels, const float* weights, float eps, T* magnitude) {
  constexpr int kAcross = kFlat ? 1 : 3;
  const int64_t strips = (s.height + kStrip - 1) / kStrip, pieces = (s.width + kPiece - 1) / kPiece;
  const int64_t piece = (s.width + pieces - 1) / pieces;
  float c[3];
  for (int d = 0; d < 3; ++d) c[d] = weights[d] * weights[d] * norm(kFlat);
#pragma omp parallel for num_threads(s.threads) schedule(dynamic, 16)
  for (int64_t job = 0; job < s.batch * s.depth * strips * pieces; ++job) {
    const int64_t x0 = job % pieces * piece, y0 = job / pieces % strips * kStrip;
    const int64_t z = job / pieces / strips % s.depth, start = job / pieces / strips / s.depth * s.voxels();
    const int n = static_cast<int>(std::min(piece, s.width - x0));
    alignas(64) uint8_t copy[3][kAcross][kBytes];  // of the rows y - 1, y, y + 1, in turn
    const auto load = [&](int64_t y) {
      for (int j = 0; j < kAcross; ++j) {
        const int64_t at = clamped(kFlat ? z : z + j - 1, s.depth) * s.height + clamped(y, s.height);
        copy_row(labels + start + at * s.width, x0, n, 1, s.width, copy[(y + 3) % 3][j], kBytes);
      }
    };
    load(y0 - 1);
    load(y0);
    for (int64_t y = y0; y < std::min(y0 + kStrip, s.height); ++y) {
      load(y + 1);
      const uint8_t* line[kLines<kFlat>];
      for (int j = 0; j < kLines<kFlat>; ++j) line[j] = copy[(y + 2 + j % 3) % 3][j / 3];
      magnitude_piece<T, kFlat>(line, n, c, eps, magnitude + start + (z * s.height + y) * s.width + x0);
    }
  }
}

// One tile of the backward pass: labels two voxels around it, upstream gradient over magnitude one voxel around it.
template <class T, bool kFlat> class Tile {
 public:
  using Fold = Transposed<kFlat>;
  static constexpr int kDepth = Fold::kDepth, kHeight = Fold::kHeight, kAcross = Fold::kAcross;

  Tile(Shape s, const float* weights, float temperature)
      : s_(s), temperature_(temperature), classes_(static_cast<int>(s.channels)),
        labels_((kDepth + 4) * (kHeight + 4)), present_(labels_.size()), ratio_(Fold::kRows),
        towards_(classes_ * kDepth * kHeight), reached_(towards_.size()), e_(classes_), upstream_(classes_) {
    for (int d = 0; d < 3; ++d) c_[d] = weights[d] * weights[d] * norm(kFlat);
  }

  void run(const T* gradient, const T* magnitude, const uint8_t* labels, const T* logits, int64_t z0, int64_t y0,
           int64_t x0, int n, T* result) {
    z0_ = z0, y0_ = y0, x0_ = x0, n_ = n, wide_ = (n + 4 + kBytes - 1) / kBytes * kBytes;
    depth_ = static_cast<int>(std::min<int64_t>(kDepth, s_.depth - z0));
    height_ = static_cast<int>(std::min<int64_t>(kHeight, s_.height - y0));
    const uint64_t present = load_labels(labels);
    const bool edge = (present & (present - 1)) != 0;
    if (edge) {
      load_ratio(gradient, magnitude);
      std::fill(reached_.begin(), reached_.end(), 0);
      for (int k = 0; k < classes_; ++k)
        if (present >> k & 1) pull(k);
    }
    for (int z = 0; z < depth_; ++z)
      for (int y = 0; y < height_; ++y) {
        const int64_t at = ((z0 + z) * s_.height + y0 + y) * s_.width + x0;
        bool any = false;
        for (int k = 0; edge && k < classes_; ++k) {
          const int slot = (k * kDepth + z) * kHeight + y;
          upstream_[k] = reached_[slot] ? towards_[slot].value : nullptr;
          any |= reached_[slot] != 0;
        }
        if (any)
          softmax_gradient(logits + at, s_.voxels(), upstream_.data(), classes_, n, temperature_,
                           reinterpret_cast<float(*)[kBlock]>(e_.data()), result + at, s_.voxels());
        else
          fill_zero(result + at, s_.voxels(), classes_, n);
      }
  }

 private:
  struct Labels { alignas(64) uint8_t value[kRowSpace]; };
  struct Floats { alignas(64) float value[kRowSpace]; };
  struct Block { float value[kBlock]; };
  struct Result { float value[kMaxRow]; };

  static int label_row(int z, int y) { return (z + 2) * (kHeight + 4) + y + 2; }
  static int ratio_row(int z, int y) { return (z + kAcross) * (kHeight + 2) + y + 1; }

  uint64_t load_labels(const uint8_t* labels) {
    uint64_t all = 0;
    for (int z = kFlat ? 0 : -2; z < (kFlat ? 1 : depth_ + 2); ++z)
      for (int y = -2; y < height_ + 2; ++y) {
        const int64_t at = clamped(z0_ + z, s_.depth) * s_.height + clamped(y0_ + y, s_.height);
        uint8_t* row = labels_[label_row(z, y)].value;
        copy_row(labels + at * s_.width, x0_, n_, 2, s_.width, row, kRowSpace);
        uint64_t mask = 0;
#pragma omp simd reduction(| : mask)
        for (int i = 0; i < kRowSpace; ++i) mask |= uint64_t{1} << (row[i] & 63);
        present_[label_row(z, y)] = mask;
        all |= mask;
      }
    return all;
  }

  void load_ratio(const T* gradient, const T* magnitude) {
    for (int z = -kAcross; z < depth_ + kAcross; ++z)
      for (int y = -1; y < height_ + 1; ++y) {
        if (outside(z0_ + z, s_.depth) || outside(y0_ + y, s_.height)) continue;
        const int64_t at = ((z0_ + z) * s_.height + y0_ + y) * s_.width;
        float* row = ratio_[ratio_row(z, y)].value;
        const int from = x0_ == 0, to = x0_ + n_ == s_.width ? n_ + 1 : n_ + 2;
        const T *g = gradient + at + x0_ - 1, *m = magnitude + at + x0_ - 1;
        row[0] = row[n_ + 1] = 0;
#pragma omp simd
        for (int i = from; i < to; ++i) row[i] = widen(g[i]) / widen(m[i]);
      }
  }

  static bool outside(int64_t i, int64_t size) { return i < 0 || i >= size; }

  // Adds class k's rows around the tile to the fold, and folds.
  void pull(int k) {
    fold_.clear();
    bool any = false;
    for (int z = -kAcross; z < depth_ + kAcross; ++z)
      for (int y = -1; y < height_ + 1; ++y) any |= pull_row(k, z, y);
    if (!any) return;
    fold_.fold(depth_, height_, n_);
    for (int z = 0; z < depth_; ++z)
      for (int y = 0; y < height_; ++y) {
        const int slot = (k * kDepth + z) * kHeight + y;
        reached_[slot] = fold_.result(z, y, n_, towards_[slot].value);
      }
  }

  bool pull_row(int k, int z, int y) {
    // Beyond the border: the border's row, with the sign of the derivative across turned.
    const int zc = static_cast<int>(clamped(z0_ + z, s_.depth) - z0_);
    const int yc = static_cast<int>(clamped(y0_ + y, s_.height) - y0_);
    const uint8_t* line[kLines<kFlat>];
    uint64_t present = 0;
    for (int j = 0; j < kLines<kFlat>; ++j) {
      const int row = label_row(kFlat ? 0 : zc + j / 3 - 1, yc + j % 3 - 1);
      line[j] = labels_[row].value;
      present |= present_[row];
    }
    if (!(present >> k & 1) || !(present & (present - 1))) return false;
    alignas(64) int8_t gx[kRowSpace], gy[kRowSpace], gz[kRowSpace];
    derivatives<kFlat>(line, static_cast<uint8_t>(k), wide_, gx, gy, gz);
    const float* ratio = ratio_[ratio_row(zc, yc)].value;
    const float cx = c_[2], cy = yc == y ? c_[1] : -c_[1], cz = zc == z ? c_[0] : -c_[0];
    alignas(64) float hx[kRowSpace], hy[kRowSpace], hz[kRowSpace];
#pragma omp simd
    for (int i = 0; i < wide_; ++i) {
      hx[i] = ratio[i] * (cx * static_cast<float>(gx[i]));
      hy[i] = ratio[i] * (cy * static_cast<float>(gy[i]));
      if (!kFlat) hz[i] = ratio[i] * (cz * static_cast<float>(gz[i]));
    }
    if (x0_ == 0) hx[0] = -hx[1], hy[0] = hy[1], hz[0] = kFlat ? 0 : hz[1];
    if (x0_ + n_ == s_.width) hx[n_ + 1] = -hx[n_], hy[n_ + 1] = hy[n_], hz[n_ + 1] = kFlat ? 0 : hz[n_];
    fold_.add(z, y, hx, hy, hz, n_);
    return true;
  }

  Shape s_;
  float temperature_, c_[3];
  int classes_, depth_, height_, n_, wide_;
  int64_t z0_, y0_, x0_;
  std::vector<Labels> labels_;
  std::vector<uint64_t> present_;
  std::vector<Floats> ratio_;
  std::vector<Result> towards_;
  std::vector<uint8_t> reached_;
  std::vector<Block> e_;
  std::vector<const float*> upstream_;
  Fold fold_;
};

template <class T, bool kFlat>
void backward(Shape s, const T* gradient, const T* magnitude, const uint8_t* labels, const T* logits,
              const float* weights, float temperature, T* result) {
  using Work = Tile<T, kFlat>;
  const int64_t nz = (s.depth + Work::kDepth - 1) / Work::kDepth, ny = (s.height + Work::kHeight - 1) / Work::kHeight;
  const int64_t piece = piece_length(s.width), nx = (s.width + piece - 1) / piece, voxels = s.voxels();
#pragma omp parallel num_threads(s.threads)
  {
    Work tile(s, weights, temperature);
#pragma omp for schedule(dynamic)
    for (int64_t job = 0; job < s.batch * nz * ny * nx; ++job) {
      const int64_t x0 = job % nx * piece, y0 = job / nx % ny * Work::kHeight;
      const int64_t z0 = job / nx / ny % nz * Work::kDepth, b = job / nx / ny / nz;
      tile.run(gradient + b * voxels, magnitude + b * voxels, labels + b * voxels, logits + b * s.channels * voxels, z0,
               y0, x0, static_cast<int>(std::min(piece, s.width - x0)), result + b * s.channels * voxels);
    }
  }
}

}  // namespace

void edge_magnitude(Type type, Shape s, const uint8_t* labels, const float* weights, float eps, void* magnitude) {
  with_float(type, [&](auto t) {
    using T = decltype(t);
    (s.flat ? forward<T, true> : forward<T, false>)(s, labels, weights, eps, static_cast<T*>(magnitude));
  });
}

void edge_magnitude_backward(Type type, Shape s, const void* gradient, const void* magnitude, const uint8_t* labels,
                             const void* logits, const float* weights, float temperature, void* result) {
  with_float(type, [&](auto t) {
    using T = decltype(t);
    (s.flat ? backward<T, true> : backward<T, false>)(s, static_cast<const T*>(gradient),
                                                      static_cast<const T*>(magnitude), labels,
                                                      static_cast<const T*>(logits), weights, temperature,
                                                      static_cast<T*>(result));
  });
}

}  // namespace ANATOMAD_LEVEL
