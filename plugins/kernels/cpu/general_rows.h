// Rows with more than a norm, or an add-norm of one type: a gate, a shift, a residual of another type than x, a float32
// sum that is normalised as it is. Several at a time where they are short, as in rows.h.
//
// A row is read twice, and y and the sum are written with the second reading, so that they may be the memory of what is
// read. Products of the gate in front of a norm are held in float32, unless a row is too long: then they are computed a
// second time. Vectors hold neighbours, in the order of memory, for tensors of two types meet in them.
#pragma once

#include "kernels/cpu/gate.h"
#include "kernels/cpu/rows.h"

namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL {

// The first `count` (< kWidth) elements; the others are zero.
template <class E>
static __attribute__((noinline)) Vector load_partial(const E* from, int64_t count) {
  E padded[kWidth] = {};
  std::copy(from, from + count, padded);
  return load(padded);
}

template <class E>
static __attribute__((noinline)) void store_partial(E* to, Vector value, int64_t count) {
  E padded[kWidth];
  store(padded, value);
  std::copy(padded, padded + count, to);
}

// A vector of `count` elements; kWhole: of all that it has.
template <bool kWhole, class E>
RMS_DEPLOY_INLINE Vector load_some(const E* from, int64_t count) {
  return kWhole ? load(from) : load_partial(from, count);
}

template <bool kWhole, class E>
RMS_DEPLOY_INLINE void store_some(E* to, Vector value, int64_t count) {
  kWhole ? store(to, value) : store_partial(to, value, count);
}

// Rounds each lane to T and back, as round_to, but for the payload of a NaN, which costs a bfloat16 three operations.
template <class T>
RMS_DEPLOY_INLINE Vector rounded_to(Vector value) {
  if constexpr (std::is_same_v<T, BFloat16> || std::is_same_v<T, Held<BFloat16>>) {
    return value == value ? vector_of(bfloat16_rounded(value)) : value;
  } else {
    return round_to<T>(value);
  }
}

// The elements of scale, or of shift, for one row.
template <class T, bool kRoundFirst>
class Factors {
 public:
  Factors(const Problem& p, const void* tensor, int64_t first)
      : is_scalar_(p.scalar_scale), is_wide_(kIsHeld<T> || p.scale_type != p.type) {
    if (tensor != nullptr) {
      wide_ = static_cast<const float*>(tensor) + first;
      own_ = static_cast<const T*>(tensor) + first;
    }
  }

  // As they are applied: rounded to T if the problem rounds before it scales.
  template <bool kWhole>
  __attribute__((always_inline)) Vector at(int64_t i, int64_t count) const {
    if (!is_wide_) {
      return is_scalar_ ? broadcast(to_float(*own_)) : load_some<kWhole>(own_ + i, count);
    }
    const Vector value = is_scalar_ ? broadcast(*wide_) : load_some<kWhole>(wide_ + i, count);
    return kRoundFirst ? rounded_to<T>(value) : value;
  }

 private:
  bool is_scalar_;
  bool is_wide_;
  const float* wide_ = nullptr;
  const T* own_ = nullptr;
};

// What is read of a row, and how. Loops have one of their own: a store may change a member, but not what has no
// address.
template <class T>
class Source {
 public:
  Source(const Problem& p, int64_t row)
      : x_(static_cast<const T*>(p.x) + row * p.n),
        gate_(p.gate),
        is_add_(p.gate == contract::Gate::kNone && p.operand != nullptr),
        is_mixed_(p.sum_type != p.type),
        keeps_float32_(p.normalizes_float32_sum) {
    if (p.operand != nullptr) {
      own_ = static_cast<const T*>(p.operand) + row * p.n;
      wide_ = static_cast<const float*>(p.operand) + row * p.n;
    }
    if (p.sum != nullptr) {
      own_sum_ = static_cast<T*>(p.sum) + row * p.n;
      wide_sum_ = static_cast<float*>(p.sum) + row * p.n;
    }
  }

  template <bool kWhole>
  __attribute__((always_inline)) Vector gate_at(int64_t i, int64_t count) const {
    return gate_of(gate_, load_some<kWhole>(own_ + i, count));
  }

  // What is normalised. With kStores the sum of an add-norm is stored.
  template <bool kWhole, bool kStores>
  __attribute__((always_inline)) Vector at(int64_t i, int64_t count) const {
    const Vector x = load_some<kWhole>(x_ + i, count);
    if (gate_ == contract::Gate::kSiluFirst) {
      return x * gate_at<kWhole>(i, count);
    }
    if (!is_add_) {
      return x;
    }
    const Vector sum = x + (is_mixed_ ? load_some<kWhole>(wide_ + i, count) : load_some<kWhole>(own_ + i, count));
    if (kStores && own_sum_ != nullptr) {
      is_mixed_ ? store_some<kWhole>(wide_sum_ + i, sum, count) : store_some<kWhole>(own_sum_ + i, sum, count);
    }
    return keeps_float32_ ? sum : rounded_to<T>(sum);
  }

 private:
  const T* x_;
  const T* own_ = nullptr;  // the operand, if it has the type of x
  const float* wide_ = nullptr;
  T* own_sum_ = nullptr;
  float* wide_sum_ = nullptr;
  contract::Gate gate_;
  bool is_add_;
  bool is_mixed_;
  bool keeps_float32_;
};

template <class T, bool kRoundFirst>
class GeneralRows {
 public:
  explicit GeneralRows(const Problem& problem)
      : p_(problem),
        is_held_(p_.gate == contract::Gate::kSiluFirst && p_.statistics_size == p_.n && padded(p_.n) <= kHeld) {}

  void norm(int64_t first, int64_t last) {
    const int64_t rows = std::clamp<int64_t>(kHeld / 4 / padded(p_.n), 1, kMaxRows);
    for (int64_t begin = first; begin < last; begin += rows) {
      const int64_t end = std::min(begin + rows, last);
      for (int64_t row = begin; row < end; ++row) {
        totals_[row - begin] = sum_of_squares(row, is_held_ ? held(row - begin) : nullptr);
      }
      take_statistics(begin, end);
      for (int64_t row = begin; row < end; ++row) {
        statistics_.wide[row - begin] ? write<true>(row, row - begin) : write<false>(row, row - begin);
      }
    }
  }

 private:
  static constexpr int64_t kHeld = 16384;  // elements: 64 KiB

  float* held(int64_t slot) { return held_ + slot * padded(p_.n); }

  // Puts what is normalised into `to`, if that is not null.
  __attribute__((noinline)) double sum_of_squares(int64_t row, float* to) const {
    const Source<T> source(p_, row);
    const int64_t size = p_.statistics_size;
    double total = 0.0;
    for (int64_t begin = 0; begin < size; begin += kChunk) {
      const int64_t end = std::min(begin + kChunk, size);
      Vector sums[kRegisters] = {};
      const auto add = [&](auto is_whole, int64_t i, Vector& sum) __attribute__((always_inline)) {
        const Vector value = source.template at<is_whole.value, false>(i, end - i);
        if (to != nullptr) {
          store(to + i, value);
        }
        sum += value * value;
      };
      int64_t i = begin;
      for (; i + kLanes <= end; i += kLanes) {
        unrolled<kRegisters>(RMS_DEPLOY_BODY(r) { add(std::true_type{}, i + r * kWidth, sums[r]); });
      }
      if (i < end) {
        unrolled<kRegisters>(RMS_DEPLOY_BODY(r) {
          if (i + kWidth <= end) {
            add(std::true_type{}, i, sums[r]);
          } else if (i < end) {
            add(std::false_type{}, i, sums[r]);
          }
          i += kWidth;
        });
      }
      total += static_cast<double>(reduce<float>(sums));
    }
    return total;
  }

  void take_statistics(int64_t begin, int64_t end) {
    if (!cpu::RMS_DEPLOY_LEVEL::take_statistics<T>(totals_, end - begin, p_, statistics_)) {
      return;
    }
    for (int64_t row = begin; row < end; ++row) {
      if (statistics_.wide[row - begin]) {
        set_wide<T>(root_mean_square(sum_of_squares_float64(row), p_), p_, statistics_, row - begin);
      }
    }
  }

  double sum_of_squares_float64(int64_t row) const {
    const Source<T> source(p_, row);
    double total = 0.0;
    for (int64_t i = 0; i < p_.statistics_size; i += kWidth) {
      const int64_t count = std::min<int64_t>(kWidth, p_.statistics_size - i);
      const Vector values = source.template at<false, false>(i, count);
      for (int lane = 0; lane < kWidth; ++lane) {
        const double value = static_cast<double>(values[lane]);
        total += value * value;
      }
    }
    return total;
  }

  template <bool kWide>
  __attribute__((noinline)) void write(int64_t row, int64_t slot) {
    const int64_t first = scale_offset(p_, row);
    const int64_t n = p_.n;
    const Source<T> source(p_, row);
    const Factors<T, kRoundFirst> scale(p_, p_.scale, first);
    const Factors<T, kRoundFirst> shift(p_, p_.shift, first);
    const bool has_shift = p_.shift != nullptr;
    const bool has_gate = p_.gate == contract::Gate::kSilu || p_.gate == contract::Gate::kSigmoid;
    const float* const from = is_held_ ? held(slot) : nullptr;
    T* const to = static_cast<T*>(p_.y) + row * n;
    const Vector high = broadcast(statistics_.high[slot]);
    const Vector low = broadcast(statistics_.low[slot]);
    const double rms = statistics_.rms[slot];
    const auto write_some = [&](auto is_whole, int64_t i) __attribute__((always_inline)) {
      constexpr bool kWhole = is_whole.value;
      const int64_t count = n - i;
      Vector y = from != nullptr ? load(from + i) : source.template at<kWhole, true>(i, count);
      y = kWide ? divided_float64(y, rms) : divide<T>(y, high, low);
      y = (kRoundFirst ? rounded_to<T>(y) : y) * scale.template at<kWhole>(i, count);
      if (has_shift) {
        y = (kRoundFirst ? rounded_to<T>(y) : y) + shift.template at<kWhole>(i, count);
      } else if (has_gate) {
        y = (kRoundFirst ? rounded_to<T>(y) : y) * source.template gate_at<kWhole>(i, count);
      }
      store_some<kWhole>(to + i, y, count);
    };
    int64_t i = 0;
    for (; i + kWidth <= n; i += kWidth) {
      write_some(std::true_type{}, i);
    }
    if (i < n) {
      write_some(std::false_type{}, i);
    }
  }

  RMS_DEPLOY_INLINE Vector divided_float64(Vector value, double rms) {
    for (int lane = 0; lane < kWidth; ++lane) {
      value[lane] = static_cast<float>(static_cast<double>(value[lane]) / rms);
    }
    return value;
  }

  const Problem& p_;
  const bool is_held_;
  double totals_[kMaxRows] = {};
  Statistics<kMaxRows> statistics_;
  alignas(64) float held_[kHeld];
};

}  // namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL
