// inner > 1: the normalised elements of a column are `inner` apart, the columns are neighbours. The vectors run along
// the columns. A unit is a block of kColumns columns; pass 1 sweeps it for the sums of squares, pass 2 writes it.
#pragma once

#include "kernels/cpu/rows.h"

namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL {

// Terms that a float32 accumulator takes before it is folded into a double.
constexpr int64_t kDepth = 16;

// The statistics of a block of columns, as the vectors of pass 2 want them.
struct ColumnStatistics {
  Statistic each[kColumns];
  float high[kColumns];
  float low[kColumns];
  bool any_wide;
};

template <class T, bool kAdd>
static void column_sums_of_squares(const Source<T, kAdd>& source, const Problem& p, int64_t columns, double* totals) {
  float sums[kColumns];
  for (int64_t c = 0; c < columns; ++c) {
    totals[c] = 0.0;
  }
  for (int64_t k = 0; k < p.statistics_size;) {
    const int64_t end = p.statistics_size - k > kDepth ? k + kDepth : p.statistics_size;
    for (int64_t c = 0; c < columns; ++c) {
      sums[c] = 0.0F;
    }
    for (; k < end; ++k) {
      int64_t c = 0;
      for (; c + kWidth <= columns; c += kWidth) {
        const Vector v = source.whole(k * p.inner + c);
        store(sums + c, load(sums + c) + v * v);
      }
      if (c < columns) {
        const Vector v = source.partial(k * p.inner + c, columns - c);
        store_partial(sums + c, load_partial(sums + c, columns - c) + v * v, columns - c);
      }
    }
    for (int64_t c = 0; c < columns; ++c) {
      totals[c] += static_cast<double>(sums[c]);
    }
  }
}

template <class T>
static double column_sum_of_squares_float64(const T* x, const Problem& p) {
  double total = 0.0;
  for (int64_t k = 0; k < p.statistics_size; ++k) {
    const double v = static_cast<double>(to_float(x[k * p.inner]));
    total += v * v;
  }
  return total;
}

template <class T>
static void column_statistics(const T* x, const double* totals, const Problem& p, int64_t columns,
                              ColumnStatistics& statistics) {
  statistics.any_wide = false;
  for (int64_t c = 0; c < columns; ++c) {
    const bool holds = float32_holds(totals[c], p);
    const double sum_of_squares = holds ? totals[c] : column_sum_of_squares_float64(x + c, p);
    const Statistic s = statistic_of(sum_of_squares, p, holds);
    statistics.each[c] = s;
    statistics.high[c] = s.high;
    statistics.low[c] = s.low;
    statistics.any_wide = statistics.any_wide || s.wide;
  }
}

template <class T, class S, bool kRoundFirst, bool kScalar>
static void write_columns(const T* x, const Scale<T, S, kRoundFirst, kScalar>& scale, T* y, const Problem& p,
                          int64_t columns, const ColumnStatistics& s) {
  for (int64_t k = 0; k < p.n; ++k) {
    const int64_t row = k * p.inner;
    const Vector factor = kScalar ? scale.one : scale.rounded(broadcast(scale.single(k)));
    int64_t c = 0;
    for (; c + kWidth <= columns; c += kWidth) {
      const Vector quotient = divide(load(x + row + c), load(s.high + c), load(s.low + c));
      store(y + row + c, scaled<T, kRoundFirst>(quotient, factor));
    }
    if (c < columns) {
      const int64_t rest = columns - c;
      const Vector quotient =
          divide(load_partial(x + row + c, rest), load_partial(s.high + c, rest), load_partial(s.low + c, rest));
      store_partial(y + row + c, scaled<T, kRoundFirst>(quotient, factor), rest);
    }
  }
}

template <class T, class S, bool kRoundFirst, bool kScalar>
static void write_columns_float64(const T* x, const Scale<T, S, kRoundFirst, kScalar>& scale, T* y, const Problem& p,
                                  int64_t columns, const ColumnStatistics& s) {
  for (int64_t k = 0; k < p.n; ++k) {
    for (int64_t c = 0; c < columns; ++c) {
      const int64_t i = k * p.inner + c;
      y[i] = scaled_one<T, kRoundFirst>(divide_one(to_float(x[i]), s.each[c]), scale.single(k));
    }
  }
}

template <class T, class S, bool kRoundFirst, bool kScalar, bool kAdd>
static void norm_columns(const Problem& p, int64_t first, int64_t last) {
  const Scale<T, S, kRoundFirst, kScalar> scale(p.scale);
  const int64_t blocks = (p.inner + kColumns - 1) / kColumns;
  double totals[kColumns];
  ColumnStatistics statistics;
  for (int64_t unit = first; unit < last; ++unit) {
    const int64_t column = unit % blocks * kColumns;
    const int64_t columns = p.inner - column < kColumns ? p.inner - column : kColumns;
    const int64_t offset = unit / blocks * p.n * p.inner + column;
    const T* x = static_cast<const T*>(p.x) + offset;
    T* y = static_cast<T*>(p.y) + offset;
    Source<T, kAdd> source{x, nullptr, nullptr};
    if constexpr (kAdd) {
      source.residual = static_cast<const T*>(p.residual) + offset;
      source.sum = p.sum == nullptr ? y : static_cast<T*>(p.sum) + offset;
      x = source.sum;
    }
    column_sums_of_squares(source, p, columns, totals);
    column_statistics(x, totals, p, columns, statistics);
    if (statistics.any_wide) {
      write_columns_float64(x, scale, y, p, columns, statistics);
    } else {
      write_columns<T, S, kRoundFirst, kScalar>(x, scale, y, p, columns, statistics);
    }
  }
}

}  // namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL
