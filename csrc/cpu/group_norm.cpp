// Group normalisation with SiLU after it, each way in two passes over memory whose channels lie innermost.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels.h"

namespace ANATOMAD_LEVEL {
namespace {

constexpr int64_t kRow = 256;        // elements of a row at least: loops are long where channels are few
constexpr int64_t kPiece = 1 << 14;  // elements of a piece: its sums are the same whichever thread takes it

// A sample [voxel, channel] as rows of whole voxels, so that a place in a row always belongs to one channel.
struct Rows {
  int64_t channels, elements, length, piece, pieces;
  explicit Rows(Shape s)
      : channels(s.channels), elements(s.voxels() * s.channels), length(channels * std::max<int64_t>(1, kRow / channels)),
        piece(length * std::max<int64_t>(1, kPiece / length)), pieces((elements + piece - 1) / piece) {}

  // Calls f(start, n) for every row of a piece.
  template <class F> void each(int64_t number, F f) const {
    const int64_t end = std::min(elements, (number + 1) * piece);
    for (int64_t start = number * piece; start < end; start += length) f(start, std::min(length, end - start));
  }
};

// One number per place of a row, from one per channel.
class Table {
 public:
  explicit Table(const Rows& rows) : channels_(rows.channels), value_(rows.length) {}
  template <class F> void fill(F f) {
    for (int64_t c = 0; c < channels_; ++c) value_[c] = static_cast<float>(f(c));
    for (size_t i = channels_; i < value_.size(); ++i) value_[i] = value_[i - channels_];
  }
  const float* data() const { return value_.data(); }

 private:
  int64_t channels_;
  std::vector<float> value_;
};

// Two sums per channel over a sample: every piece has its own, added up in their order.
class Sums {
 public:
  explicit Sums(const Rows& rows) : rows_(rows), of_piece_(rows.pieces * 2 * rows.channels), total_(2 * rows.channels) {}

  // f(start, n, first, second) adds a row's numbers to first[i] and second[i].
  template <class F> void add(int64_t number, std::vector<float>& space, F f) {
    std::fill(space.begin(), space.end(), 0.0f);
    float *first = space.data(), *second = first + rows_.length;
    rows_.each(number, [&](int64_t start, int64_t n) { f(start, n, first, second); });
    double* out = &of_piece_[number * 2 * rows_.channels];
    std::fill_n(out, 2 * rows_.channels, 0.0);
    for (int64_t i = 0; i < rows_.length; i += rows_.channels)
      for (int64_t c = 0; c < rows_.channels; ++c) out[c] += first[i + c], out[rows_.channels + c] += second[i + c];
  }
  void total() {
    std::fill(total_.begin(), total_.end(), 0.0);
    for (size_t i = 0; i < of_piece_.size(); ++i) total_[i % total_.size()] += of_piece_[i];
  }
  double first(int64_t c) const { return total_[c]; }
  double second(int64_t c) const { return total_[rows_.channels + c]; }

 private:
  const Rows& rows_;
  std::vector<double> of_piece_, total_;
};

inline float sigmoid(float z) {
  const float e = exp_negative(-std::fabs(z)), s = 1.0f / (1.0f + e);
  return z < 0 ? e * s : s;
}

template <class T>
void forward(Shape s, const T* x, const float* weight, const float* bias, int groups, float eps, T* y, float* mean,
             float* rstd) {
  const Rows rows(s);
  const int64_t width = s.channels / groups;
  const double voxels = static_cast<double>(s.voxels()), count = voxels * width;
  Table shift(rows), factor(rows), offset(rows);
  Sums sums(rows);
#pragma omp parallel num_threads(s.threads)
  {
    std::vector<float> space(2 * rows.length);
    for (int64_t b = 0; b < s.batch; ++b) {
      const T* in = x + b * rows.elements;
      T* out = y + b * rows.elements;
#pragma omp single
      shift.fill([&](int64_t c) { return widen(in[c]); });  // squares of numbers far from 0 would lose digits
      const float* about = shift.data();
#pragma omp for
      for (int64_t number = 0; number < rows.pieces; ++number)
        sums.add(number, space, [&](int64_t start, int64_t n, float* first, float* second) {
#pragma omp simd
          for (int64_t i = 0; i < n; ++i) {
            const float v = widen(in[start + i]) - about[i];
            first[i] += v;
            second[i] += v * v;
          }
        });
#pragma omp single
      {
        sums.total();
        for (int g = 0; g < groups; ++g) {
          double centre = 0, spread = 0;
          for (int64_t c = g * width; c < (g + 1) * width; ++c) centre += sums.first(c) + voxels * about[c];
          centre /= count;
          for (int64_t c = g * width; c < (g + 1) * width; ++c) {
            const double away = about[c] - centre;
            spread += sums.second(c) + 2 * away * sums.first(c) + voxels * away * away;
          }
          mean[b * groups + g] = static_cast<float>(centre);
          rstd[b * groups + g] = static_cast<float>(1 / std::sqrt(std::max(spread / count, 0.0) + eps));
        }
        const float *m = mean + b * groups, *r = rstd + b * groups;
        factor.fill([&](int64_t c) { return weight[c] * r[c / width]; });
        offset.fill([&](int64_t c) { return bias[c] - m[c / width] * (weight[c] * r[c / width]); });
      }
      const float *f = factor.data(), *o = offset.data();
#pragma omp for
      for (int64_t number = 0; number < rows.pieces; ++number)
        rows.each(number, [&](int64_t start, int64_t n) {
#pragma omp simd
          for (int64_t i = 0; i < n; ++i) {
            const float z = widen(in[start + i]) * f[i] + o[i];
            narrow(z * sigmoid(z), out[start + i]);
          }
        });
    }
  }
}

// Gradient of a normalised value's activation, through SiLU: g * d/dz (z sigmoid(z)).
inline float through_silu(float g, float z) {
  const float s = sigmoid(z);
  return g * (s * (1.0f + z * (1.0f - s)));
}

template <class T>
void backward(Shape s, const T* gradient, const T* x, const float* mean, const float* rstd, const float* weight,
              const float* bias, int groups, T* result, float* weight_result, float* bias_result) {
  const Rows rows(s);
  const int64_t width = s.channels / groups;
  const double count = static_cast<double>(s.voxels()) * width;
  Table scale(rows), weights(rows), biases(rows), centre(rows), towards(rows), level(rows), slope(rows);
  weights.fill([&](int64_t c) { return weight[c]; });
  biases.fill([&](int64_t c) { return bias[c]; });
  Sums sums(rows);
  std::vector<double> of_weight(s.channels), of_bias(s.channels), mean_of(groups), along(groups);
#pragma omp parallel num_threads(s.threads)
  {
    std::vector<float> space(2 * rows.length);
    const float *w = weights.data(), *a = biases.data();
    for (int64_t b = 0; b < s.batch; ++b) {
      const T *in = x + b * rows.elements, *up = gradient + b * rows.elements;
      const float *m = mean + b * groups, *r = rstd + b * groups;
      T* out = result + b * rows.elements;
#pragma omp single
      {
        scale.fill([&](int64_t c) { return r[c / width]; });
        centre.fill([&](int64_t c) { return m[c / width]; });
      }
      const float *k = scale.data(), *o = centre.data();
#pragma omp for
      for (int64_t number = 0; number < rows.pieces; ++number)
        sums.add(number, space, [&](int64_t start, int64_t n, float* first, float* second) {
#pragma omp simd
          for (int64_t i = 0; i < n; ++i) {
            const float normal = (widen(in[start + i]) - o[i]) * k[i];
            const float d = through_silu(widen(up[start + i]), normal * w[i] + a[i]);
            first[i] += d;
            second[i] += d * normal;
            narrow(d, out[start + i]);
          }
        });
#pragma omp single
      {
        sums.total();
        std::fill(mean_of.begin(), mean_of.end(), 0.0);
        std::fill(along.begin(), along.end(), 0.0);
        for (int64_t c = 0; c < s.channels; ++c) {
          of_bias[c] += sums.first(c);
          of_weight[c] += sums.second(c);
          mean_of[c / width] += weight[c] * sums.first(c) / count;
          along[c / width] += weight[c] * sums.second(c) / count;
        }
        towards.fill([&](int64_t c) { return r[c / width] * weight[c]; });
        level.fill([&](int64_t c) { return -r[c / width] * mean_of[c / width]; });
        slope.fill([&](int64_t c) { return -r[c / width] * along[c / width]; });
      }
      const float *t = towards.data(), *l = level.data(), *q = slope.data();
#pragma omp for
      for (int64_t number = 0; number < rows.pieces; ++number)
        rows.each(number, [&](int64_t start, int64_t n) {
#pragma omp simd
          for (int64_t i = 0; i < n; ++i) {
            const float normal = (widen(in[start + i]) - o[i]) * k[i];
            narrow(widen(out[start + i]) * t[i] + l[i] + normal * q[i], out[start + i]);
          }
        });
    }
  }
  std::copy(of_weight.begin(), of_weight.end(), weight_result);
  std::copy(of_bias.begin(), of_bias.end(), bias_result);
}

}  // namespace

void group_norm_silu(Type type, Shape s, const void* x, const float* weight, const float* bias, int groups, float eps,
                     void* y, float* mean, float* rstd) {
  with_float(type, [&](auto t) {
    using T = decltype(t);
    forward(s, static_cast<const T*>(x), weight, bias, groups, eps, static_cast<T*>(y), mean, rstd);
  });
}

void group_norm_silu_backward(Type type, Shape s, const void* gradient, const void* x, const float* mean,
                              const float* rstd, const float* weight, const float* bias, int groups, void* result,
                              float* weight_result, float* bias_result) {
  with_float(type, [&](auto t) {
    using T = decltype(t);
    backward(s, static_cast<const T*>(gradient), static_cast<const T*>(x), mean, rstd, weight, bias, groups,
             static_cast<T*>(result), weight_result, bias_result);
  });
}

}  // namespace ANATOMAD_LEVEL
