// inner = 1: each row is contiguous. A row is read for its sum of squares (and the sum of an add-norm is written), then
// read again, from a cache, and written.
//
// Short rows are taken several at a time, so that their divisions and roots, some 60 cycles each, overlap.
// Where the tensor does not fit the caches (Problem::stream), memory must never wait: while a row is written, a later
// one is fetched.
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

// The pair of float32 at `from`, in the order of T's pairs.
template <class T>
RMS_DEPLOY_INLINE void load_in_order(const float* from, Vector (&pair)[2]) {
  float ordered[kPair];
  for (int64_t lane = 0; lane < kWidth; ++lane) {
    ordered[lane] = from[kEvenOdd<T> ? 2 * lane : lane];
    ordered[kWidth + lane] = from[kEvenOdd<T> ? 2 * lane + 1 : kWidth + lane];
  }
  load_pair(ordered, pair);
}

// Elements 0 ... n - 1 of a float32 scale, rounded to T if kRound, in the order of T's pairs, with zeros up to a whole
// pair.
template <class T, bool kRound>
static void order(const float* from, float* to, int64_t n) {
  const auto order_pair = [to](const float* pair_from, int64_t i) {
    Vector pair[2];
    load_in_order<T>(pair_from, pair);
    unrolled<2>(RMS_DEPLOY_BODY(half) {
      const Vector v = pair[half] == pair[half] ? pair[half] : broadcast(__builtin_nanf(""));  // as `quiet`
      store(to + i + half * kWidth, kRound ? round_to<T>(v) : v);
    });
  };
  int64_t i = 0;
  for (; i + kPair <= n; i += kPair) {
    order_pair(from + i, i);
  }
  if (i < n) {
    float padded[kPair] = {};
    std::copy(from + i, from + n, padded);
    order_pair(padded, i);
  }
}

// All of scale, with one factor for each of the n, as the kernels read it: see Problem::ordered_scale.
template <class T, bool kRoundFirst>
static void order_all(const Problem& p, float* to) {
  if constexpr (!kIsHeld<T>) {
    if (p.scale_type == p.type) {  // every NaN of it is one of T
      const T* from = static_cast<const T*>(p.scale);
      for (int64_t i = 0; i < p.n; i += kPair) {
        Vector pair[2];
        i + kPair <= p.n ? load_pair(from + i, pair) : load_partial_pair(from + i, p.n - i, pair);
        store(to + i, pair[0]);
        store(to + i + kWidth, pair[1]);
      }
      return;
    }
  }
  order<T, kRoundFirst>(static_cast<const float*>(p.scale), to, p.n);
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

  // Adds the squares of the elements first ... end - 1 to the accumulators.
  __attribute__((always_inline)) void all_squares(int64_t first, int64_t end, Vector (&sums)[kRegisters]) const {
    int64_t i = first;
    for (; i + kLanes <= end; i += kLanes) {
      unrolled<kPairs>(RMS_DEPLOY_BODY(r) { squares(i + r * kPair, sums[2 * r], sums[2 * r + 1]); });
    }
    if (i == end) {
      return;
    }
    unrolled<kPairs>(RMS_DEPLOY_BODY(r) {
      if (i + kPair <= end) {
        squares(i, sums[2 * r], sums[2 * r + 1]);
      } else if (i < end) {
        partial_squares(i, end - i, sums[2 * r], sums[2 * r + 1]);
      }
      i += kPair;
    });
  }

  // Fetches the pair at i into the first-level cache; of an add-norm, whose rows push each other out of that, into the
  // second.
  __attribute__((always_inline)) void fetch(int64_t i) const {
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
    constexpr int kLocality = kAdd ? 2 : 3;
    for (int64_t line = 0; line < kPair; line += kLine) {
      __builtin_prefetch(x + i + line, 0, kLocality);
      if constexpr (kAdd) {
        __builtin_prefetch(residual + i + line, 0, kLocality);
      }
    }
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
template <class T, bool kRoundFirst, bool kAdd, bool kStream, class S>
struct Writer {
  const T* x;
  const S* scale;
  T* y;
  Reader<T, kAdd> next;  // of a later row, which is fetched meanwhile if kStream
  Vector high;
  Vector low;

  // Elements 0 ... n - 1.
  void write_row(int64_t n) const {
    const Writer local = *this;  // a store to y may change a member, but not what has no address
    int64_t i = 0;
    for (; i + 2 * kPair <= n; i += 2 * kPair) {
      local.write(i);
      local.write(i + kPair);
    }
    if (i + kPair <= n) {
      local.write(i);
      i += kPair;
    }
    if (i < n) {
      local.write_partial(i, n - i);
    }
  }

 private:
  __attribute__((always_inline)) void write(int64_t i) const {
    Vector pair[2];
    Vector factors[2];
    load_pair(x + i, pair);
    keep(pair[0]);
    keep(pair[1]);
    load_pair(scale + i, factors);
    multiply(pair, factors);
    store_pair<kStream>(y + i, pair);
    if constexpr (kStream) {
      next.fetch(i);
    }
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

  __attribute__((always_inline)) void multiply(Vector (&pair)[2], const Vector (&factors)[2]) const {
    unrolled<2>(RMS_DEPLOY_BODY(half) {
      pair[half] = scaled<T, kRoundFirst>(divide<T>(pair[half], high, low), factors[half]);
    });
  }
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

template <class T, bool kAdd>
RMS_DEPLOY_INLINE double sum_of_squares(const Reader<T, kAdd> reader, int64_t size) {
  double total = 0.0;
  for (int64_t i = 0; i < size; i += kChunk) {
    Vector sums[kRegisters] = {};
    reader.all_squares(i, size - i > kChunk ? i + kChunk : size, sums);
    total += static_cast<double>(reduce<T>(sums));
  }
  return total;
}

// The rows of one call, or one thread's part of them.
template <class T, bool kRoundFirst, bool kAdd, bool kStream>
class Rows {
 public:
  explicit Rows(const Problem& problem) : p_(problem) {}

  void norm(int64_t first, int64_t last) {
    if (p_.ordered_scale != nullptr) {
      return run(p_.ordered_scale, first, last);
    }
    if constexpr (!kIsHeld<T>) {
      if (!p_.scalar_scale && p_.scale_type == p_.type) {
        return run(static_cast<const T*>(p_.scale), first, last);
      }
    }
    order_scale(0, 0, p_.n < kScale ? p_.n : kScale);
    run(static_cast<const float*>(ordered_), first, last);
  }

 private:
  template <class S>
  using AWriter = Writer<T, kRoundFirst, kAdd, kStream, S>;

  template <class S>
  void run(const S* scale, int64_t first, int64_t last) {
    const int64_t at_once = kBlockBytes / static_cast<int64_t>(sizeof(T)) / p_.n;
    const int64_t rows = at_once < 1 ? 1 : at_once < kMaxRows ? at_once : kMaxRows;
    const bool is_given = static_cast<const void*>(scale) != ordered_;
    const bool whole = is_given || (p_.n <= kScale && p_.scale_rows == 1);  // all of scale is ready
    const bool has_rows = is_given && p_.scale_rows != 1;
    for (int64_t begin = first; begin < last; begin += rows) {
      const int64_t end = begin + rows < last ? begin + rows : last;
      read(begin, end);
      take_statistics(begin, end);
      for (int64_t row = begin; row < end; ++row) {
        if (statistics_.wide[row - begin]) {
          write_float64(row, row - begin);
        } else if (whole) {
          writer(has_rows ? scale_of(scale, row) : scale, row, row + rows, row - begin).write_row(p_.n);
        } else {
          write_in_parts(row, row + rows, row - begin);
        }
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
    return {x(row), kAdd ? static_cast<const T*>(p_.operand) + row * p_.n : nullptr, kAdd ? sum(row) : nullptr};
  }

  template <class S>
  AWriter<S> writer(const S* scale, int64_t row, int64_t next, int64_t slot) const {
    const Vector high = broadcast(statistics_.high[slot]);
    return {source(row), scale, y(row), reader(next), high, broadcast(statistics_.low[slot])};
  }

  // Sums the squares of the rows begin ... end - 1 into totals_.
  __attribute__((noinline)) void read(int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      totals_[row - begin] = sum_of_squares(reader(row), p_.statistics_size);
    }
  }

  void take_statistics(int64_t begin, int64_t end) {
    if (!cpu::RMS_DEPLOY_LEVEL::take_statistics<T>(totals_, end - begin, p_, statistics_)) {
      return;
    }
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
      std::fill_n(ordered_, padded(n), kRoundFirst ? to_float(from_float<T>(value)) : quiet(value));
    }
  }

  void write_in_parts(int64_t row, int64_t next, int64_t slot) {
    for (int64_t i = 0; i < p_.n; i += kScale) {
      const int64_t size = p_.n - i < kScale ? p_.n - i : kScale;
      order_scale(row, i, size);
      AWriter<float> part = writer<float>(ordered_, row, next, slot);
      part.x += i;
      part.y += i;
      part.next.x += i;
      if constexpr (kAdd) {
        part.next.residual += i;
      }
      part.write_row(size);
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
