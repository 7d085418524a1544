// The backward pass with inner = 1: a row is read for its two sums, then read again, from a cache, and written. The
// sums are those of the forward pass: the same accumulators in the same order, so that every level gives the same bits.
#pragma once

#include "kernels/cpu/gradient_statistic.h"
#include "kernels/cpu/rows.h"

namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL {

// Rows that a float32 accumulator of grad_scale takes before it is folded into a double.
constexpr int64_t kFoldRows = 64;

// Of x and grad_y, that are read before they are written: what a usual first-level cache keeps.
constexpr int64_t kGradientBytes = 16384;

// sum(x^2) and sum(g x) of a row in one loop or, as 16 accumulators are all the registers that older levels have, one
// each.
constexpr bool kBothSums = kRegisters <= 4;

template <class T, bool kSquares, bool kDots>
struct RowSums {
  const T* x;
  const T* grad;
  const float* factors;  // in the order of T's pairs, in whole pairs
  double squares = 0.0;
  double dots = 0.0;

  // Elements first ... end - 1, where first is a multiple of kChunk.
  __attribute__((always_inline)) void add(int64_t first, int64_t end) {
    for (int64_t i = first; i < end;) {
      const int64_t stop = end - i > kChunk ? i + kChunk : end;
      Vector square_sums[kRegisters] = {};
      Vector dot_sums[kRegisters] = {};
      for (; i + kLanes <= stop; i += kLanes) {
        unrolled<kPairs>(RMS_DEPLOY_BODY(r) { pair(i + r * kPair, kPair, square_sums + 2 * r, dot_sums + 2 * r); });
      }
      if (i < stop) {
        unrolled<kPairs>(RMS_DEPLOY_BODY(r) {
          if (i + r * kPair < stop) {
            pair(i + r * kPair, stop - i - r * kPair, square_sums + 2 * r, dot_sums + 2 * r);
          }
        });
        i = stop;
      }
      squares += kSquares ? static_cast<double>(reduce<T>(square_sums)) : 0.0;
      dots += kDots ? static_cast<double>(reduce<T>(dot_sums)) : 0.0;
    }
  }

 private:
  __attribute__((always_inline)) void pair(int64_t i, int64_t count, Vector* square_sums, Vector* dot_sums) const {
    Vector v[2];
    count < kPair ? load_partial_pair(x + i, count, v) : load_pair(x + i, v);
    if constexpr (kSquares) {
      unrolled<2>(RMS_DEPLOY_BODY(half) {
        keep(v[half]);
        square_sums[half] += v[half] * v[half];
      });
    }
    if constexpr (kDots) {
      Vector g[2];
      count < kPair ? load_partial_pair(grad + i, count, g) : load_pair(grad + i, g);
      unrolled<2>(RMS_DEPLOY_BODY(half) { dot_sums[half] += g[half] * load(factors + i + half * kWidth) * v[half]; });
    }
  }
};

template <class T, bool kSum, bool kWantsX, bool kWantsScale, bool kStream>
class GradientRows {
 public:
  GradientRows(const Gradient& gradient, float* scratch)
      : g_(gradient), p_(gradient.norm), factors_(gradient.factors), totals_(scratch) {
    if constexpr (kEvenOdd<T>) {
      float* ordered = scratch + padded(p_.n);
      order<T, false>(gradient.factors, ordered, p_.n);
      factors_ = ordered;
    }
  }

  // The rows first ... last - 1 are one part; `share` is its share of grad_scale.
  void run(int64_t first, int64_t last, double* share) {
    const int64_t at_once = kGradientBytes / (2 * static_cast<int64_t>(sizeof(T))) / p_.n;
    const int64_t rows = at_once < 1 ? 1 : at_once < kMaxRows ? at_once : kMaxRows;
    ahead_ = rows * p_.n;
    bool folded = false;
    int64_t unfolded = 0;
    clear();
    for (int64_t begin = first; begin < last; begin += rows) {
      const int64_t end = begin + rows < last ? begin + rows : last;
      read(begin, end);
      write(begin, end);
      unfolded += end - begin;
      if (unfolded + rows > kFoldRows || end == last) {
        folded ? fold<true>(share) : fold<false>(share);
        folded = true;
        unfolded = 0;
      }
    }
  }

 private:
  const T* x(int64_t row) const { return static_cast<const T*>(p_.x) + row * p_.n; }
  const T* grad(int64_t row) const { return static_cast<const T*>(g_.grad_y) + row * p_.n; }
  const T* grad_sum(int64_t row) const { return static_cast<const T*>(g_.grad_sum) + row * p_.n; }
  T* grad_x(int64_t row) const { return static_cast<T*>(g_.grad_x) + row * p_.n; }

  __attribute__((noinline)) void read(int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t slot = row - begin;
      if (kBothSums && p_.statistics_size == p_.n) {
        RowSums<T, true, true> sums{x(row), grad(row), factors_};
        sums.add(0, p_.n);
        squares_[slot] = sums.squares;
        dots_[slot] = sums.dots;
      } else {
        RowSums<T, true, false> squares{x(row), grad(row), factors_};
        RowSums<T, false, true> dots{x(row), grad(row), factors_};
        squares.add(0, p_.statistics_size);
        dots.add(0, p_.n);
        squares_[slot] = squares.squares;
        dots_[slot] = dots.dots;
      }
    }
    take_gradient_statistics(squares_, dots_, end - begin, p_, statistics_);
  }

  void write(int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t slot = row - begin;
      if (statistics_.wide[slot]) {
        take_wide_statistics(x(row), grad(row), g_.factors, 1, p_, statistics_, slot);
        write_wide(row, slot);
      } else {
        write_row(row, broadcast(statistics_.inverse[slot]), broadcast(statistics_.along_float32[slot]));
      }
    }
  }

  // Local copies of what the loops use: a store through a T* may change a member.
  struct Row {
    const T* x;
    const T* grad;
    const T* grad_sum;
    T* grad_x;
    const float* factors;
    float* totals;
    int64_t ahead;
    Vector inverse;
  };

  __attribute__((noinline)) void write_row(int64_t row, Vector inverse, Vector along) {
    const Row local{
        x(row), grad(row), kSum ? grad_sum(row) : nullptr, kWantsX ? grad_x(row) : nullptr, factors_, totals_,
        ahead_, inverse};
    const int64_t n = p_.n;
    const int64_t k = p_.statistics_size;
    int64_t i = write_range(local, 0, k == n ? n : k / kPair * kPair, along, along);
    if (k < n) {
      if (i < k) {  // the pair in which the statistic ends
        float lanes[kPair];
        for (int64_t lane = 0; lane < kPair; ++lane) {
          lanes[place(lane)] = i + lane < k ? along[0] : 0.0F;
        }
        i = write_range(local, i, i + kPair < n ? i + kPair : n, load(lanes), load(lanes + kWidth));
      }
      write_range(local, i, n, Vector{}, Vector{});
    }
  }

  // Elements first ... end - 1, where first is a multiple of kPair. Returns end.
  static __attribute__((always_inline)) int64_t write_range(const Row row, int64_t first, int64_t end, Vector even,
                                                            Vector odd) {
    const Vector along[2] = {even, odd};
    int64_t i = first;
    for (; i + kPair <= end; i += kPair) {
      write_pair<true>(row, i, kPair, along);
    }
    if (i < end) {
      write_pair<false>(row, i, end - i, along);
    }
    return end;
  }

  // Elements of the pair at i: all, or `count`.
  template <bool kWhole>
  static __attribute__((always_inline)) void write_pair(const Row& row, int64_t i, int64_t count,
                                                        const Vector (&along)[2]) {
    const auto read_pair = [&](const T* from, Vector(&pair)[2]) __attribute__((always_inline)) {
      kWhole ? load_pair(from + i, pair) : load_partial_pair(from + i, count, pair);
    };
    Vector v[2];
    Vector g[2];
    read_pair(row.x, v);
    read_pair(row.grad, g);
    if constexpr (kStream) {
      constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
      for (int64_t line = 0; line < kPair; line += kLine) {
        __builtin_prefetch(row.x + i + row.ahead + line);
        __builtin_prefetch(row.grad + i + row.ahead + line);
      }
    }
    unrolled<2>(RMS_DEPLOY_BODY(half) {
      const int64_t at = i + half * kWidth;
      const Vector u = v[half] * row.inverse;
      keep(g[half]);
      if constexpr (kWantsScale) {
        store(row.totals + at, load(row.totals + at) + g[half] * u);
      }
      v[half] = (g[half] * load(row.factors + at) - u * along[half]) * row.inverse;
    });
    if constexpr (kSum) {
      read_pair(row.grad_sum, g);
      v[0] += g[0];
      v[1] += g[1];
    }
    if constexpr (kWantsX) {
      kWhole ? store_pair<kStream>(row.grad_x + i, v) : store_partial_pair(row.grad_x + i, v, count);
    }
  }

  void write_wide(int64_t row, int64_t slot) {
    for (int64_t i = 0; i < p_.n; ++i) {
      const double g = static_cast<double>(to_float(grad(row)[i]));
      const WideElement e = wide_element(static_cast<double>(to_float(x(row)[i])), g,
                                         static_cast<double>(g_.factors[i]), i < p_.statistics_size, statistics_, slot);
      if constexpr (kWantsX) {
        const double other = kSum ? static_cast<double>(to_float(grad_sum(row)[i])) : 0.0;
        grad_x(row)[i] = from_float<T>(static_cast<float>(e.grad_x + other));
      }
      if constexpr (kWantsScale) {
        totals_[i / kPair * kPair + place(i % kPair)] += static_cast<float>(g * e.normed);
      }
    }
  }

  // Where an element of a pair stands in it.
  static int64_t place(int64_t lane) { return !kEvenOdd<T> ? lane : lane % 2 * kWidth + lane / 2; }

  void clear() {
    if constexpr (kWantsScale) {
      std::fill_n(totals_, padded(p_.n), 0.0F);
    }
  }

  // Adds the accumulators to what `share` has, or else writes them, and clears them.
  template <bool kAdd>
  void fold(double* share) {
    if constexpr (kWantsScale) {
      for (int64_t i = 0; i < p_.n; ++i) {
        const double total = static_cast<double>(totals_[kEvenOdd<T> ? i / kPair * kPair + place(i % kPair) : i]);
        share[i] = kAdd ? share[i] + total : total;
      }
      clear();
    }
  }

  const Gradient& g_;
  const Problem& p_;
  const float* factors_;  // in the order of T's pairs
  float* totals_;         // of grad_scale, in that order
  int64_t ahead_ = 0;     // elements from one that is written to one that is read next
  double squares_[kMaxRows] = {};
  double dots_[kMaxRows] = {};
  GradientStatistics<kMaxRows> statistics_;
};

}  // namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL
