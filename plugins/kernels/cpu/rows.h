// inner = 1: each row is contiguous. Pass 1 takes the sum of squares (and writes the sum of an add-norm), pass 2 reads
// the row again, from the cache, and writes y. Both passes go through four parts: 64 elements, whole vectors, a partial
// vector, reduction.
#pragma once

#include <type_traits>

#include "kernels/cpu/statistic.h"

namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL {

constexpr int kLanes = 64;
constexpr int kRegisters = kLanes / kWidth;
constexpr int64_t kChunk = 32 * kLanes;

// Adds the 64 accumulators by halves: lane i to lane i + 32, and so on, in the same order for every vector width.
RMS_DEPLOY_INLINE float reduce(Vector (&sums)[kRegisters]) {
  for (int half = kRegisters / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) {
      sums[i] += sums[i + half];
    }
  }
  float lanes[kWidth];
  store(lanes, sums[0]);
  for (int half = kWidth / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) {
      lanes[i] += lanes[i + half];
    }
  }
  return lanes[0];
}

// x, or x + residual rounded to T and stored.
template <class T, bool kAdd>
struct Source {
  const T* x;
  const T* residual;
  T* sum;

  __attribute__((always_inline)) Vector whole(int64_t i) const {
    if constexpr (kAdd) {
      const Vector total = round_to<T>(load(x + i) + load(residual + i));
      store(sum + i, total);
      return total;
    } else {
      return load(x + i);
    }
  }

  __attribute__((always_inline)) Vector partial(int64_t i, int64_t count) const {
    if constexpr (kAdd) {
      const Vector total = round_to<T>(load_partial(x + i, count) + load_partial(residual + i, count));
      store_partial(sum + i, total, count);
      return total;
    } else {
      return load_partial(x + i, count);
    }
  }
};

template <class T, bool kAdd>
static double row_sum_of_squares(const Source<T, kAdd>& source, int64_t size) {
  double total = 0.0;
  for (int64_t i = 0; i < size;) {
    const int64_t end = size - i > kChunk ? i + kChunk : size;
    Vector sums[kRegisters] = {};
    for (; i + kLanes <= end; i += kLanes) {
#pragma GCC unroll 16
      for (int r = 0; r < kRegisters; ++r) {
        const Vector v = source.whole(i + r * kWidth);
        sums[r] += v * v;
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRegisters; ++r) {
      if (i + kWidth <= end) {
        const Vector v = source.whole(i);
        sums[r] += v * v;
        i += kWidth;
      } else if (i < end) {
        const Vector v = source.partial(i, end - i);
        sums[r] += v * v;
        i = end;
      }
    }
    total += static_cast<double>(reduce(sums));
  }
  return total;
}

template <class T>
static double row_sum_of_squares_float64(const T* x, int64_t size) {
  double total = 0.0;
  for (int64_t i = 0; i < size; ++i) {
    const double v = static_cast<double>(to_float(x[i]));
    total += v * v;
  }
  return total;
}

// What stands in `scale`: S elements along the row, or one for all; rounded to T where the order asks for it.
template <class T, class S, bool kRoundFirst, bool kScalar>
struct Scale {
  const S* elements;
  Vector one;  // kScalar

  static __attribute__((always_inline)) Vector rounded(Vector value) {
    if constexpr (kRoundFirst && !std::is_same_v<S, T>) {
      return round_to<T>(value);
    } else {
      return value;
    }
  }

  explicit Scale(const void* scale)
      : elements(static_cast<const S*>(scale)), one(kScalar ? rounded(broadcast(to_float(elements[0]))) : Vector{}) {}

  __attribute__((always_inline)) Vector whole(int64_t i) const {
    if constexpr (kScalar) {
      return one;
    } else {
      return rounded(load(elements + i));
    }
  }

  __attribute__((always_inline)) Vector partial(int64_t i, int64_t count) const {
    if constexpr (kScalar) {
      return one;
    } else {
      return rounded(load_partial(elements + i, count));
    }
  }

  __attribute__((always_inline)) float single(int64_t i) const { return to_float(elements[kScalar ? 0 : i]); }
};

template <class T, class S, bool kRoundFirst, bool kScalar>
static void write_row(const T* x, const Scale<T, S, kRoundFirst, kScalar>& scale, T* y, int64_t n, const Statistic& s) {
  const Vector high = broadcast(s.high);
  const Vector low = broadcast(s.low);
  int64_t i = 0;
#pragma GCC unroll 4
  for (; i + kWidth <= n; i += kWidth) {
    const Vector quotient = divide(load(x + i), high, low);
    store(y + i, scaled<T, kRoundFirst>(quotient, scale.whole(i)));
  }
  if (i < n) {
    const Vector quotient = divide(load_partial(x + i, n - i), high, low);
    store_partial(y + i, scaled<T, kRoundFirst>(quotient, scale.partial(i, n - i)), n - i);
  }
}

template <class T, class S, bool kRoundFirst, bool kScalar>
static void write_row_float64(const T* x, const Scale<T, S, kRoundFirst, kScalar>& scale, T* y, int64_t n,
                              const Statistic& s) {
  for (int64_t i = 0; i < n; ++i) {
    y[i] = scaled_one<T, kRoundFirst>(divide_one(to_float(x[i]), s), scale.single(i));
  }
}

template <class T, class S, bool kRoundFirst, bool kScalar, bool kAdd>
static void norm_rows(const Problem& p, int64_t first, int64_t last) {
  const Scale<T, S, kRoundFirst, kScalar> scale(p.scale);
  for (int64_t row = first; row < last; ++row) {
    const int64_t offset = row * p.n;
    const T* x = static_cast<const T*>(p.x) + offset;
    T* y = static_cast<T*>(p.y) + offset;
    Source<T, kAdd> source{x, nullptr, nullptr};
    if constexpr (kAdd) {
      source.residual = static_cast<const T*>(p.residual) + offset;
      source.sum =
          p.sum == nullptr ? y : static_cast<T*>(p.sum) + offset;  // nobody wants the sum: y holds it meanwhile
      x = source.sum;
    }
    double sum_of_squares = row_sum_of_squares(source, p.statistics_size);
    const bool holds = float32_holds(sum_of_squares, p);
    if (!holds) {
      sum_of_squares = row_sum_of_squares_float64(x, p.statistics_size);
    }
    const Statistic s = statistic_of(sum_of_squares, p, holds);
    if (s.wide) {
      write_row_float64(x, scale, y, p.n, s);
    } else {
      write_row<T, S, kRoundFirst, kScalar>(x, scale, y, p.n, s);
    }
  }
}

}  // namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL
