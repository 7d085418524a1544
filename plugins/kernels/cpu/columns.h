// inner > 1: the normalised elements of a column are `inner` apart, the columns are neighbours. The vectors run along
// the columns. A unit is a block of kColumns columns: it is read once for the sums of squares, which brings it into the
// second-level cache, and read again from there to be written. Each row of the block lies in another page, where the
// prefetchers of CPUs start anew; so the kernel prefetches, some rows ahead.
#pragma once

#include "kernels/cpu/rows.h"

namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL {

// Terms that a float32 accumulator takes before it is folded into a double.
constexpr int64_t kDepth = 16;

// The statistics of a block of columns, in the order of T's pairs.
using ColumnStatistics = Statistics<kColumns>;

// Which column stands at `position` of a block of pairs.
template <class T>
RMS_DEPLOY_INLINE int64_t column_at(int64_t position) {
  const int64_t pair = position / kPair * kPair;
  const int64_t lane = position - pair;
  return !kEvenOdd<T> ? position : pair + (lane < kWidth ? 2 * lane : 2 * (lane - kWidth) + 1);
}

template <class T, bool kAdd>
static void column_sums_of_squares(const Reader<T, kAdd>& reader, const Problem& p, int64_t columns, double* totals) {
  for (int64_t c = 0; c < kColumns; ++c) {
    totals[c] = 0.0;
  }
  for (int64_t begin = 0; begin < p.statistics_size; begin += kDepth) {
    const int64_t end = begin + kDepth < p.statistics_size ? begin + kDepth : p.statistics_size;
    for (int64_t c = 0; c < columns; c += kPair) {
      Vector sums[2] = {};
      for (int64_t k = begin; k < end; ++k) {
        const int64_t i = k * p.inner + c;
        __builtin_prefetch(reinterpret_cast<const char*>(reader.x + i) + kDepth * p.inner * sizeof(T));
        if (c + kPair <= columns) {
          reader.squares(i, sums[0], sums[1]);
        } else {
          reader.partial_squares(i, columns - c, sums[0], sums[1]);
        }
      }
      float lanes[kPair];
      store(lanes, sums[0]);
      store(lanes + kWidth, sums[1]);
      for (int lane = 0; lane < kPair; ++lane) {
        totals[c + lane] += static_cast<double>(lanes[lane]);
      }
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

// Takes the statistics of all columns. Returns whether one of them needed float64.
template <class T>
static bool column_statistics(const T* x, const double* totals, const Problem& p, int64_t columns,
                              ColumnStatistics& s) {
  const int64_t positions = (columns + kPair - 1) / kPair * kPair;
  if (!take_statistics<T>(totals, positions, p, s)) {
    return false;
  }
  bool any_wide = false;
  for (int64_t i = 0; i < positions; ++i) {
    if (s.wide[i] && column_at<T>(i) < columns) {
      any_wide = true;
      set_wide<T>(root_mean_square(column_sum_of_squares_float64(x + column_at<T>(i), p), p), p, s, i);
    }
  }
  return any_wide;
}

template <class T, bool kRoundFirst>
static void write_columns(const T* x, T* y, const Problem& p, int64_t columns, int64_t scales,
                          const ColumnStatistics& s) {
  constexpr int64_t kAhead = 4;  // rows to prefetch; one takes about as long as memory needs to answer
  for (int64_t k = 0; k < p.n; ++k) {
    const int64_t row = k * p.inner;
    const float scale = scale_at(p, scales + (p.scalar_scale ? 0 : k));
    const Vector factor = broadcast(kRoundFirst ? to_float(from_float<T>(scale)) : quiet(scale));
    for (int64_t c = 0; c < columns; c += kPair) {
      const T* from = x + row + c;
      T* to = y + row + c;
      __builtin_prefetch(reinterpret_cast<char*>(to) + kAhead * p.inner * sizeof(T), 1);
      Vector pair[2];
      c + kPair <= columns ? load_pair(from, pair) : load_partial_pair(from, columns - c, pair);
      unrolled<2>(RMS_DEPLOY_BODY(half) {
        const int64_t i = c + half * kWidth;
        pair[half] = scaled<T, kRoundFirst>(divide<T>(pair[half], load(s.high + i), load(s.low + i)), factor);
      });
      c + kPair <= columns ? store_pair<false>(to, pair) : store_partial_pair(to, pair, columns - c);
    }
  }
}

template <class T, bool kRoundFirst>
static void write_columns_float64(const T* x, T* y, const Problem& p, int64_t columns, int64_t scales,
                                  const ColumnStatistics& s) {
  for (int64_t k = 0; k < p.n; ++k) {
    const float scale = scale_at(p, scales + (p.scalar_scale ? 0 : k));
    for (int64_t position = 0; position < (columns + kPair - 1) / kPair * kPair; ++position) {
      const int64_t i = k * p.inner + column_at<T>(position);
      if (column_at<T>(position) < columns) {
        y[i] = scaled_one<T, kRoundFirst>(divide_one<T>(to_float(x[i]), s, position), scale);
      }
    }
  }
}

template <class T, bool kRoundFirst, bool kAdd>
static void norm_columns(const Problem& p, int64_t first, int64_t last) {
  const int64_t blocks = (p.inner + kColumns - 1) / kColumns;
  double totals[kColumns];
  ColumnStatistics statistics;
  for (int64_t unit = first; unit < last; ++unit) {
    const int64_t column = unit % blocks * kColumns;
    const int64_t columns = p.inner - column < kColumns ? p.inner - column : kColumns;
    const int64_t offset = unit / blocks * p.n * p.inner + column;
    const int64_t scales = scale_offset(p, unit / blocks);
    const T* x = static_cast<const T*>(p.x) + offset;
    T* y = static_cast<T*>(p.y) + offset;
    Reader<T, kAdd> reader{x, nullptr, nullptr};
    if constexpr (kAdd) {
      reader.residual = static_cast<const T*>(p.operand) + offset;
      reader.sum = p.sum == nullptr ? y : static_cast<T*>(p.sum) + offset;
      x = reader.sum;
    }
    column_sums_of_squares(reader, p, columns, totals);
    if (column_statistics(x, totals, p, columns, statistics)) {
      write_columns_float64<T, kRoundFirst>(x, y, p, columns, scales, statistics);
    } else {
      write_columns<T, kRoundFirst>(x, y, p, columns, scales, statistics);
    }
  }
}

}  // namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL
