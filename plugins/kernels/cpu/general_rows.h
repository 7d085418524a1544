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

template <class T, bool kRoundFirst>
class GeneralRows {
 public:
  explicit GeneralRows(const Problem& problem)
      : p_(problem),
        is_first_(p_.gate == contract::Gate::kSiluFirst),
        is_add_(p_.gate == contract::Gate::kNone && p_.operand != nullptr),
        is_held_(is_first_ && p_.statistics_size == p_.n && padded(p_.n) <= kHeld) {}

  void norm(int64_t first, int64_t last) {
    const int64_t rows = std::clamp<int64_t>(kHeld / 4 / padded(p_.n), 1, kMaxRows);
    for (int64_t begin = first; begin < last; begin += rows) {
      const int64_t end = std::min(begin + rows, last);
      for (int64_t row = begin; row < end; ++row) {
        totals_[row - begin] = sum_of_squares(row, row - begin);
      }
      take_statistics(begin, end);
      for (int64_t row = begin; row < end; ++row) {
        write(row, row - begin);
      }
    }
  }

 private:
  static constexpr int64_t kHeld = 16384;  // elements: 64 KiB

  // The elements of `tensor` from `at` on, `count` of them if that is less than a vector; the others are zero.
  template <class E>
  __attribute__((always_inline)) static Vector load_from(const void* tensor, int64_t at, int64_t count) {
    const E* from = static_cast<const E*>(tensor) + at;
    return count >= kWidth ? load(from) : load_partial(from, count);
  }

  template <class E>
  __attribute__((always_inline)) static void store_to(void* tensor, int64_t at, int64_t count, Vector value) {
    E* to = static_cast<E*>(tensor) + at;
    count >= kWidth ? store(to, value) : store_partial(to, value, count);
  }

  __attribute__((always_inline)) Vector gate(int64_t at, int64_t count) const {
    return gate_of(p_.gate, load_from<T>(p_.operand, at, count));
  }

  // What is normalised. With kStores the sum of an add-norm is stored.
  template <bool kStores>
  __attribute__((always_inline)) Vector source(int64_t at, int64_t count) const {
    const Vector x = load_from<T>(p_.x, at, count);
    if (is_first_) {
      return x * gate(at, count);
    }
    if (!is_add_) {
      return x;
    }
    const bool is_mixed = p_.sum_type != p_.type;
    const Vector sum = x + (is_mixed ? load_from<float>(p_.operand, at, count) : load_from<T>(p_.operand, at, count));
    if (kStores && p_.sum != nullptr) {
      is_mixed ? store_to<float>(p_.sum, at, count, sum) : store_to<T>(p_.sum, at, count, sum);
    }
    return p_.normalizes_float32_sum ? sum : round_to<T>(sum);
  }

  float* held(int64_t slot) { return held_ + slot * padded(p_.n); }

  double sum_of_squares(int64_t row, int64_t slot) {
    double total = 0.0;
    for (int64_t begin = 0; begin < p_.statistics_size; begin += kChunk) {
      const int64_t end = std::min(begin + kChunk, p_.statistics_size);
      Vector sums[kRegisters] = {};
      for (int64_t i = begin; i < end; i += kLanes) {
        unrolled<kRegisters>(RMS_DEPLOY_BODY(r) {
          const int64_t at = i + r * kWidth;
          if (at < end) {
            const Vector value = source<false>(row * p_.n + at, end - at);
            if (is_held_) {
              store(held(slot) + at, value);
            }
            sums[r] += value * value;
          }
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
    double total = 0.0;
    for (int64_t i = 0; i < p_.statistics_size; i += kWidth) {
      const Vector values = source<false>(row * p_.n + i, p_.statistics_size - i);
      for (int lane = 0; lane < kWidth; ++lane) {
        const double value = static_cast<double>(values[lane]);
        total += value * value;
      }
    }
    return total;
  }

  // Scale or shift as it is applied: rounded to T if the problem rounds before it scales. `first` is that of the row.
  __attribute__((always_inline)) Vector factor(const void* tensor, int64_t first, int64_t i) const {
    const bool is_wide = kIsHeld<T> || p_.scale_type != p_.type;
    Vector value;
    if (p_.scalar_scale) {
      value = broadcast(is_wide ? static_cast<const float*>(tensor)[first]
                                : to_float(static_cast<const T*>(tensor)[first]));
    } else {
      value = is_wide ? load_from<float>(tensor, first + i, p_.n - i) : load_from<T>(tensor, first + i, p_.n - i);
    }
    return kRoundFirst ? round_to<T>(value) : value;
  }

  void write(int64_t row, int64_t slot) {
    const int64_t scale = scale_offset(p_, row);
    for (int64_t i = 0; i < p_.n; i += kWidth) {
      const int64_t at = row * p_.n + i;
      const int64_t count = p_.n - i;
      const Vector normed = divided(is_held_ ? load(held(slot) + i) : source<true>(at, count), slot);
      Vector y = (kRoundFirst ? round_to<T>(normed) : normed) * factor(p_.scale, scale, i);
      y = kRoundFirst ? round_to<T>(y) : y;
      if (p_.shift != nullptr) {
        y += factor(p_.shift, scale, i);
      }
      if (p_.gate != contract::Gate::kNone && !is_first_) {
        y *= gate(at, count);
      }
      store_to<T>(p_.y, at, count, y);
    }
  }

  __attribute__((always_inline)) Vector divided(Vector value, int64_t slot) const {
    if (!statistics_.wide[slot]) {
      return divide<T>(value, broadcast(statistics_.high[slot]), broadcast(statistics_.low[slot]));
    }
    for (int lane = 0; lane < kWidth; ++lane) {
      value[lane] = static_cast<float>(static_cast<double>(value[lane]) / statistics_.rms[slot]);
    }
    return value;
  }

  const Problem& p_;
  const bool is_first_;
  const bool is_add_;
  const bool is_held_;
  double totals_[kMaxRows] = {};
  Statistics<kMaxRows> statistics_;
  alignas(64) float held_[kHeld];
};

}  // namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL
