// The Sobel stencil in parts that the label and the image operators share.
//
// Rows run along the width. A border voxel is repeated beyond the border; the transposed stencil then meets, beyond the
// border, the border's own value, with its sign turned for the derivative across that border.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels.h"

namespace ANATOMAD_LEVEL {

constexpr int kMaxRow = 96;    // voxels of a row that are worked on at a time
constexpr int kRowSpace = 128; // with what lies around them, up to the next whole vector

// Pieces of equal length, whole vectors of 16, at most kMaxRow.
inline int piece_length(int64_t width) {
  const int64_t pieces = (width + kMaxRow - 1) / kMaxRow;
  return static_cast<int>(((width + pieces - 1) / pieces + 15) / 16 * 16);
}

inline int64_t clamped(int64_t i, int64_t size) { return i < 0 ? 0 : i >= size ? size - 1 : i; }

// Copies [x0 - halo, x0 + n + halo) of a row, repeating the border, and fills up to `space`.
template <class T, class U>
inline void copy_row(const T* row, int64_t x0, int n, int halo, int64_t width, U* out, int space) {
  const int64_t first = x0 - halo;
  const int total = n + 2 * halo;
  const int before = static_cast<int>(std::max<int64_t>(0, -first));
  const int inside = static_cast<int>(std::min<int64_t>(total, width - first));
  for (int i = 0; i < before; ++i) out[i] = U(row[0]);
  if (before == 0 && first + space <= width) {
    for (int i = 0; i < space; ++i) out[i] = U(row[first + i]);  // `space` is a constant for the callers in a hurry
    return;
  }
  for (int i = before; i < inside; ++i) out[i] = U(row[first + i]);
  for (int i = inside; i < space; ++i) out[i] = U(row[width - 1]);
}

// Normalisation of the squared stencil: differences count 1/2, smoothing 1/4 per other axis.
inline float norm(bool flat) { return flat ? 1.0f / 64 : 1.0f / 1024; }

// Transposed stencil over a tile of depth x height rows, from the rows h = ratio * derivative around it.
template <bool kFlat> class Transposed {
 public:
  static constexpr int kDepth = kFlat ? 1 : 8, kHeight = kFlat ? 16 : 8;
  static constexpr int kAcross = kFlat ? 0 : 1;  // rows of halo along the depth
  static constexpr int kRows = (kDepth + 2 * kAcross) * (kHeight + 2);
  struct Row {
    float x[kMaxRow], y[kMaxRow], z[kMaxRow];
  };

  Transposed() : rows_(kRows), used_(kRows), folded_((kDepth + 2) * kHeight), fold_used_((kDepth + 2) * kHeight) {}

  void clear() { std::fill(used_.begin(), used_.end(), 0); }

  // Takes in the row at (z, y) of the tile, each from -1: derivatives times ratio at x0 - 1 to x0 + n.
  void add(int z, int y, const float* hx, const float* hy, const float* hz, int n) {
    const int at = index(z, y);
    Row& row = rows_[at];
    used_[at] = 1;
#pragma omp simd
    for (int i = 0; i < n; ++i) {
      row.x[i] = hx[i] - hx[i + 2];
      row.y[i] = hy[i] + 2 * hy[i + 1] + hy[i + 2];
      if (!kFlat) row.z[i] = hz[i] + 2 * hz[i + 1] + hz[i + 2];
    }
  }

  // Folds along the height; then result() folds along the depth.
  void fold(int depth, int height, int n) {
    for (int z = -kAcross; z < depth + kAcross; ++z)
      for (int y = 0; y < height; ++y) {
        const int at = (z + kAcross) * kHeight + y;
        fold_used_[at] = used_[index(z, y - 1)] | used_[index(z, y)] | used_[index(z, y + 1)];
        if (!fold_used_[at]) continue;
        const Row &a = row(z, y - 1), &b = row(z, y), &c = row(z, y + 1);
        Row& out = folded_[at];
#pragma omp simd
        for (int i = 0; i < n; ++i) {
          out.x[i] = a.x[i] + 2 * b.x[i] + c.x[i] + (a.y[i] - c.y[i]);
          if (!kFlat) out.z[i] = a.z[i] + 2 * b.z[i] + c.z[i];
        }
      }
  }

  // Writes the row at (z, y) of the tile; false, and nothing written, where all is zero.
  bool result(int z, int y, int n, float* out) const {
    if (kFlat) {
      if (!fold_used_[y]) return false;
      std::copy_n(folded_[y].x, n, out);
      return true;
    }
    const int a = z * kHeight + y, b = a + kHeight, c = b + kHeight;
    if (!(fold_used_[a] | fold_used_[b] | fold_used_[c])) return false;
    const Row &p = fold_used_[a] ? folded_[a] : zero_, &q = fold_used_[b] ? folded_[b] : zero_;
    const Row& r = fold_used_[c] ? folded_[c] : zero_;
#pragma omp simd
    for (int i = 0; i < n; ++i) out[i] = p.x[i] + 2 * q.x[i] + r.x[i] + (p.z[i] - r.z[i]);
    return true;
  }

 private:
  static int index(int z, int y) { return (z + kAcross) * (kHeight + 2) + y + 1; }
  const Row& row(int z, int y) const { return used_[index(z, y)] ? rows_[index(z, y)] : zero_; }

  std::vector<Row> rows_;
  std::vector<uint8_t> used_;
  std::vector<Row> folded_;
  std::vector<uint8_t> fold_used_;
  Row zero_{};
};

}  // namespace ANATOMAD_LEVEL
