// The backward pass with inner > 1: as in the forward pass, the vectors run along the columns, and a unit is a block of
// kColumns columns, read for its sums and read again, from the second-level cache, to be written.
#pragma once

#include "kernels/cpu/columns.h"
#include "kernels/cpu/gradient_statistic.h"

namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL {

template <class T>
class GradientColumns {
 public:
  explicit GradientColumns(const Gradient& gradient) : g_(gradient), p_(gradient.norm) {}

  // The units first ... last - 1 are one part; `share` is its share of grad_scale.
  void run(int64_t first, int64_t last, double* share) {
    const int64_t blocks = (p_.inner + kColumns - 1) / kColumns;
    share_ = share;
    if (share_ != nullptr) {
      std::fill_n(share_, p_.n, 0.0);
    }
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t column = unit % blocks * kColumns;
      offset_ = unit / blocks * p_.n * p_.inner + column;
      columns_ = p_.inner - column < kColumns ? p_.inner - column : kColumns;
      read();
      take_statistics() ? write_wide() : write();
    }
  }

 private:
  const T* x(int64_t i) const { return static_cast<const T*>(p_.x) + offset_ + i; }
  const T* grad(int64_t i) const { return static_cast<const T*>(g_.grad_y) + offset_ + i; }
  const T* grad_sum(int64_t i) const { return static_cast<const T*>(g_.grad_sum) + offset_ + i; }
  T* grad_x(int64_t i) const { return static_cast<T*>(g_.grad_x) + offset_ + i; }

  // The elements of the pair at column c; zeros beyond the last column.
  __attribute__((always_inline)) void load_columns(const T* from, int64_t c, Vector (&pair)[2]) const {
    c + kPair <= columns_ ? load_pair(from, pair) : load_partial_pair(from, columns_ - c, pair);
  }

  void read() {
    std::fill_n(squares_, kColumns, 0.0);
    std::fill_n(dots_, kColumns, 0.0);
    for (int64_t begin = 0; begin < p_.n; begin += kDepth) {
      const int64_t end = begin + kDepth < p_.n ? begin + kDepth : p_.n;
      for (int64_t c = 0; c < columns_; c += kPair) {
        Vector squares[2] = {};
        Vector dots[2] = {};
        for (int64_t k = begin; k < end; ++k) {
          Vector v[2];
          Vector g[2];
          load_columns(x(k * p_.inner + c), c, v);
          load_columns(grad(k * p_.inner + c), c, g);
          const Vector factor = broadcast(g_.factors[k]);
          const bool in_statistic = k < p_.statistics_size;
          unrolled<2>(RMS_DEPLOY_BODY(half) {
            squares[half] += in_statistic ? v[half] * v[half] : Vector{};
            dots[half] += g[half] * factor * v[half];
          });
        }
        unrolled<2>(RMS_DEPLOY_BODY(half) {
          float lanes[2][kWidth];
          store(lanes[0], squares[half]);
          store(lanes[1], dots[half]);
          for (int lane = 0; lane < kWidth; ++lane) {
            squares_[c + half * kWidth + lane] += static_cast<double>(lanes[0][lane]);
            dots_[c + half * kWidth + lane] += static_cast<double>(lanes[1][lane]);
          }
        });
      }
    }
  }

  // True if float32 cannot hold one of them.
  bool take_statistics() {
    const int64_t positions = (columns_ + kPair - 1) / kPair * kPair;
    take_gradient_statistics(squares_, dots_, positions, p_, statistics_);
    bool any_wide = false;
    for (int64_t i = 0; i < positions; ++i) {
      const int64_t column = column_at<T>(i);
      if (column >= columns_) {  // no column: nothing is added for it
        statistics_.inverse[i] = 0.0F;
        statistics_.along_float32[i] = 0.0F;
      } else if (statistics_.wide[i]) {
        any_wide = true;
        take_wide_statistics(x(column), grad(column), g_.factors, p_.inner, p_, statistics_, i);
      }
    }
    return any_wide;
  }

  void write() {
    for (int64_t k = 0; k < p_.n; ++k) {
      const Vector factor = broadcast(g_.factors[k]);
      const bool in_statistic = k < p_.statistics_size;
      Vector sums[kRegisters] = {};
      for (int64_t c = 0; c < columns_; c += kLanes) {
        unrolled<kPairs>(RMS_DEPLOY_BODY(r) {
          if (c + r * kPair < columns_) {
            write_pair(k, c + r * kPair, factor, in_statistic, sums + 2 * r);
          }
        });
      }
      if (share_ != nullptr) {
        share_[k] += static_cast<double>(reduce<T>(sums));
      }
    }
  }

  __attribute__((always_inline)) void write_pair(int64_t k, int64_t c, Vector factor, bool in_statistic,
                                                 Vector* sums) const {
    const int64_t i = k * p_.inner + c;
    Vector v[2];
    Vector g[2];
    load_columns(x(i), c, v);
    load_columns(grad(i), c, g);
    unrolled<2>(RMS_DEPLOY_BODY(half) {
      const Vector inverse = load(statistics_.inverse + c + half * kWidth);
      const Vector along = in_statistic ? load(statistics_.along_float32 + c + half * kWidth) : Vector{};
      const Vector u = v[half] * inverse;
      sums[half] += g[half] * u;
      v[half] = (g[half] * factor - u * along) * inverse;
    });
    if (g_.grad_x == nullptr) {
      return;
    }
    if (g_.grad_sum != nullptr) {
      load_columns(grad_sum(i), c, g);
      v[0] += g[0];
      v[1] += g[1];
    }
    c + kPair <= columns_ ? store_pair<false>(grad_x(i), v) : store_partial_pair(grad_x(i), v, columns_ - c);
  }

  void write_wide() {
    for (int64_t k = 0; k < p_.n; ++k) {
      double total = 0.0;
      for (int64_t position = 0; position < (columns_ + kPair - 1) / kPair * kPair; ++position) {
        const int64_t column = column_at<T>(position);
        if (column >= columns_) {
          continue;
        }
        const int64_t i = k * p_.inner + column;
        const double g = static_cast<double>(to_float(*grad(i)));
        const WideElement e = wide_element(static_cast<double>(to_float(*x(i))), g, static_cast<double>(g_.factors[k]),
                                           k < p_.statistics_size, statistics_, position);
        total += g * e.normed;
        if (g_.grad_x != nullptr) {
          const double other = g_.grad_sum == nullptr ? 0.0 : static_cast<double>(to_float(*grad_sum(i)));
          *grad_x(i) = from_float<T>(static_cast<float>(e.grad_x + other));
        }
      }
      if (share_ != nullptr) {
        share_[k] += total;
      }
    }
  }

  const Gradient& g_;
  const Problem& p_;
  double* share_ = nullptr;
  int64_t offset_ = 0;
  int64_t columns_ = 0;
  double squares_[kColumns];
  double dots_[kColumns];
  GradientStatistics<kColumns> statistics_;
};

}  // namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL
