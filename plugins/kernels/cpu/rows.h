// inner = 1: each row is contiguous. A row is read for its sum of squares (and the sum of an add-norm is written), then
// read again, from a cache, and written.
//
// Short rows are taken several at a time, so that their divisions and roots, some 60 cycles each, overlap.
// Where the tensor does not fit the caches (Problem::stream), memory must never wait: while a row is written, one ahead
// of it is read, in one loop. Where it does fit, that loop would only push the row out of the first-level cache.
#pragma once

#include <algorithm>

#include "kernels/cpu/statistic.h"

namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL {

constexpr int kLanes = 64;
constexpr int kRegisters = kLanes / kWidth;
constexpr int kPairs = kLanes / kPair;
constexpr int64_t kChunk = 32 * kLanes;
constexpr int64_t kBlockBytes = 8192;  // of x that are read before they are written: a quarter of a usual L1
constexpr int64_t kMaxRows = 16;
// Elements of scale that are rounded, and brought into the order of T's pairs, at a time.
constexpr int64_t kScale = 4096;

// Adds the 64 accumulators by halves: lane i to lane i + 32, and so on, in the same order for every vector width. The
// last addition is that of the even lanes to the odd ones, so kEvenOdd gives the same bits.
template <class T>
RMS_DEPLOY_INLINE float reduce(Vector (&sums)[kRegisters]) {
  if constexpr (kRegisters > 8) {
    unrolled<8>(RMS_DEPLOY_BODY(i) { sums[i] += sums[(i + 8) % kRegisters]; });
  }
  if constexpr (kRegisters > 4) {
    unrolled<4>(RMS_DEPLOY_BODY(i) { sums[i] += sums[(i + 4) % kRegisters]; });
  }
  unrolled<2>(RMS_DEPLOY_BODY(i) { sums[i] += sums[i + 2]; });
  return kEvenOdd<T> ? add_lanes(sums[0]) + add_lanes(sums[1]) : add_lanes(sums[0] + sums[1]);
}

// A NaN of a float32 scale without the payload that a bfloat16 cannot hold: see store_pair.
RMS_DEPLOY_INLINE float quiet(float value) { return value == value ? value : __builtin_nanf(""); }

constexpr int64_t whole_pairs(int64_t n) { return (n + kPair - 1) / kPair * kPair; }

// Elements 0 ... n - 1 of a float32 scale, rounded to T if kRound, in the order of T's pairs, with zeros up to a whole
// pair.
template <class T, bool kRound>
static void order(const float* from, float* to, int64_t n) {
  for (int64_t i = 0; i < n; i += kPair) {
    float pair[kPair];
    for (int64_t lane = 0; lane < kPair; ++lane) {
      const int64_t place = !kEvenOdd<T> ? lane : lane % 2 * kWidth + lane / 2;
      pair[place] = i + lane < n ? quiet(from[i + lane]) : 0.0F;
    }
    unrolled<2>(RMS_DEPLOY_BODY(half) {
      const Vector v = load(pair + half * kWidth);
      store(to + i + half * kWidth, kRound ? round_to<T>(v) : v);
    });
  }
}

// What is read of a row: x, or x + residual rounded to T and stored.
template <class T, bool kAdd>
struct Reader {
  const T* x;
  const T* residual;
  T* sum;

  __attribute__((always_inline)) void squares(int64_t i, Vector& even, Vector& odd) const {
    Vector pair[2];
    load_pair(x + i, pair);
    if constexpr (kAdd) {
      Vector other[2];
      load_pair(residual + i, other);
      pair[0] += other[0];
      pair[1] += other[1];
      store_pair<false>(sum + i, pair);
    }
    even += pair[0] * pair[0];
    odd += pair[1] * pair[1];
  }

  // Elements first ... end - 1, fewer than kLanes.
  __attribute__((always_inline)) void last_squares(int64_t first, int64_t end, Vector (&sums)[kRegisters]) const {
    int64_t i = first;
    unrolled<kPairs>(RMS_DEPLOY_BODY(r) {
      if (i + kPair <= end) {
        squares(i, sums[2 * r], sums[2 * r + 1]);
      } else if (i < end) {
        partial_squares(i, end - i, sums[2 * r], sums[2 * r + 1]);
      }
      i += kPair;
    });
  }

  __attribute__((always_inline)) void partial_squares(int64_t i, int64_t count, Vector& even, Vector& odd) const {
    Vector pair[2];
    load_partial_pair(x + i, count, pair);
    if constexpr (kAdd) {
      Vector other[2];
      load_partial_pair(residual + i, count, other);
      pair[0] += other[0];
      pair[1] += other[1];
      store_partial_pair(sum + i, pair, count);
    }
    even += pair[0] * pair[0];
    odd += pair[1] * pair[1];
  }
};

// How a row is written. S is T, or float32 that was rounded and brought into the order of T's pairs.
template <class T, bool kRoundFirst, bool kStream, class S>
struct Writer {
  const T* x;
  const S* scale;
  T* y;
  Vector high;
  Vector low;

  Writer(const T* from, const S* factors, T* target, float inverse_high, float inverse_low)
      : x(from), scale(factors), y(target), high(broadcast(inverse_high)), low(broadcast(inverse_low)) {}

  __attribute__((always_inline)) void write(int64_t i) const {
    Vector pair[2];
    Vector factors[2];
    load_pair(x + i, pair);
    keep(pair[0]);
    keep(pair[1]);
    load_pair(scale + i, factors);
    multiply(pair, factors);
    store_pair<kStream>(y + i, pair);
  }

  __attribute__((always_inline)) void write_partial(int64_t i, int64_t count) const {
    Vector pair[2];
    Vector factors[2];
    load_partial_pair(x + i, count, pair);
    if constexpr (std::is_same_v<S, T>) {
      load_partial_pair(scale + i, count, factors);
    } else {  // the order of pairs is not that of memory: there are whole pairs
      load_pair(scale + i, factors);
    }
    multiply(pair, factors);
    store_partial_pair(y + i, pair, count);
  }

  // Elements first ... n - 1; first is a multiple of kPair.
  void rest(int64_t first, int64_t n) const {
    int64_t i = first;
    for (; i + 2 * kPair <= n; i += 2 * kPair) {
      write(i);
      write(i + kPair);
    }
    if (i + kPair <= n) {
      write(i);
      i += kPair;
    }
    if (i < n) {
      write_partial(i, n - i);
    }
  }

 private:
  __attribute__((always_inline)) void multiply(Vector (&pair)[2], const Vector (&factors)[2]) const {
    unrolled<2>(RMS_DEPLOY_BODY(half) {
      pair[half] = scaled<T, kRoundFirst>(divide<T>(pair[half], high, low), factors[half]);
    });
  }
};

// The sum of squares of the elements 0 ... size - 1 that `reader` reads. With a writer, writes its row of n elements in
// the same loop.
template <class T, class AReader, class AWriter>
RMS_DEPLOY_INLINE double read_row(const AReader reader, int64_t size, const AWriter writer, int64_t n) {
  double total = 0.0;
  int64_t i = 0;
  for (int64_t end = 0; end < size;) {
    end = size - i > kChunk ? i + kChunk : size;
    Vector sums[kRegisters] = {};
    for (; i + kLanes <= end; i += kLanes) {
      unrolled<kPairs>(RMS_DEPLOY_BODY(r) {
        reader.squares(i + r * kPair, sums[2 * r], sums[2 * r + 1]);
        writer.write(i + r * kPair);
      });
    }
    if (i < end) {
      reader.last_squares(i, end, sums);
    }
    total += static_cast<double>(reduce<T>(sums));
  }
  writer.rest(size - size % kLanes, n);
  return total;
}

// Takes the place of a Writer where nothing is written.
struct NoWriter {
  __attribute__((always_inline)) void write(int64_t) const {}
  void rest(int64_t, int64_t) const {}
};

template <class T>
static double sum_of_squares_float64(const T* x, int64_t size) {
  double total = 0.0;
  for (int64_t i = 0; i < size; ++i) {
    const double v = static_cast<double>(to_float(x[i]));
    total += v * v;
  }
  return total;
}

// The rows of one call, or one thread's part of them.
template <class T, bool kRoundFirst, bool kAdd, bool kStream>
class Rows {
 public:
  explicit Rows(const Problem& problem) : p_(problem) {}

  void norm(int64_t first, int64_t last) {
    if constexpr (!kIsHeld<T>) {
      if (!p_.scalar_scale && p_.scale_type == p_.type) {
        return run<T>(static_cast<const T*>(p_.scale), first, last);
      }
    }
    order_scale(0, 0, p_.n < kScale ? p_.n : kScale);
    run<float>(ordered_, first, last);
  }

 private:
  template <class S>
  using AWriter = Writer<T, kRoundFirst, kStream, S>;

  template <class S>
  void run(const S* scale, int64_t first, int64_t last) {
    const int64_t at_once = kBlockBytes / static_cast<int64_t>(sizeof(T)) / p_.n;
    const int64_t rows = at_once < 1 ? 1 : at_once < kMaxRows ? at_once : kMaxRows;
    const auto end_of = [&](int64_t begin) { return begin + rows < last ? begin + rows : last; };
    const bool whole =  // all of scale is ready
        static_cast<const void*>(scale) != ordered_ || (p_.n <= kScale && p_.scale_rows == 1);
    const bool ahead = kStream && whole;
    const bool has_rows = whole && p_.scale_rows != 1;
    read(first, end_of(first));
    for (int64_t begin = first; begin < last; begin += rows) {
      take_statistics(begin, end_of(begin));
      for (int64_t row = begin; row < end_of(begin); ++row) {
        const int64_t slot = row - begin;
        const S* const of_row = has_rows ? scale_of(scale, row) : scale;
        if constexpr (kStream) {
          if (ahead && row + rows < last && !statistics_.wide[slot]) {
            const AWriter<S> writer(source(row), of_row, y(row), statistics_.high[slot], statistics_.low[slot]);
            totals_[slot] = read_row<T>(reader(row + rows), p_.statistics_size, writer, p_.n);
            continue;
          }
        }
        write(of_row, whole, row, slot);
        if (ahead && row + rows < last) {
          read(row + rows, row + rows + 1, slot);
        }
      }
      if (!ahead && begin + rows < last) {
        read(begin + rows, end_of(begin + rows));
      }
    }
  }

  // Not inline: its divisions would take registers from the loops around it, which mostly do without it.
  template <class S>
  __attribute__((noinline)) const S* scale_of(const S* scale, int64_t row) const {
    return scale + scale_offset(p_, row);
  }

  const T* x(int64_t row) const { return static_cast<const T*>(p_.x) + row * p_.n; }
  T* y(int64_t row) const { return static_cast<T*>(p_.y) + row * p_.n; }
  T* sum(int64_t row) const {  // where nobody wants it, y holds it meanwhile
    return static_cast<T*>(p_.sum == nullptr ? p_.y : p_.sum) + row * p_.n;
  }
  // The row that is normalised.
  const T* source(int64_t row) const { return kAdd ? sum(row) : x(row); }

  Reader<T, kAdd> reader(int64_t row) const {
    return {x(row), kAdd ? static_cast<const T*>(p_.residual) + row * p_.n : nullptr, kAdd ? sum(row) : nullptr};
  }

  // Sums the squares of the rows begin ... end - 1 into totals_, from `slot` on.
  __attribute__((noinline)) void read(int64_t begin, int64_t end, int64_t slot = 0) {
    for (int64_t row = begin; row < end; ++row) {
      totals_[slot + row - begin] = read_row<T>(reader(row), p_.statistics_size, NoWriter{}, 0);
    }
  }

  void take_statistics(int64_t begin, int64_t end) {
    cpu::RMS_DEPLOY_LEVEL::take_statistics<T>(totals_, end - begin, p_, statistics_);
    for (int64_t row = begin; row < end; ++row) {
      if (statistics_.wide[row - begin]) {
        const double sum = sum_of_squares_float64(source(row), p_.statistics_size);
        set_wide<T>(root_mean_square(sum, p_), p_, statistics_, row - begin);
      }
    }
  }

  // Puts the elements first ... first + n - 1 of the scale of `row` into ordered_.
  void order_scale(int64_t row, int64_t first, int64_t n) {
    const int64_t offset = scale_offset(p_, row);
    if (p_.n <= kScale && offset == ordered_offset_) {
      return;
    }
    ordered_offset_ = offset;
    if (!p_.scalar_scale) {
      order<T, kRoundFirst>(static_cast<const float*>(p_.scale) + offset + first, ordered_, n);
    } else if (first == 0) {
      const float value = scale_at(p_, offset);
      std::fill_n(ordered_, whole_pairs(n), kRoundFirst ? to_float(from_float<T>(value)) : quiet(value));
    }
  }

  template <class S>
  void write(const S* scale, bool whole, int64_t row, int64_t slot) {
    if (statistics_.wide[slot]) {
      return write_float64(row, slot);
    }
    const float high = statistics_.high[slot];
    const float low = statistics_.low[slot];
    if (whole) {
      return AWriter<S>(source(row), scale, y(row), high, low).rest(0, p_.n);
    }
    for (int64_t i = 0; i < p_.n; i += kScale) {
      const int64_t size = p_.n - i < kScale ? p_.n - i : kScale;
      order_scale(row, i, size);
      AWriter<S>(source(row) + i, scale, y(row) + i, high, low).rest(0, size);
    }
  }

  void write_float64(int64_t row, int64_t slot) const {
    const T* from = source(row);
    const int64_t offset = scale_offset(p_, row);
    for (int64_t i = 0; i < p_.n; ++i) {
      y(row)[i] = scaled_one<T, kRoundFirst>(divide_one<T>(to_float(from[i]), statistics_, slot),
                                             scale_at(p_, offset + (p_.scalar_scale ? 0 : i)));
    }
  }

  const Problem& p_;
  double totals_[kMaxRows] = {};
  Statistics<kMaxRows> statistics_;
  int64_t ordered_offset_ = -1;  // of what ordered_ begins with; -1: of nothing
  alignas(64) float ordered_[kScale];
};

}  // namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL
