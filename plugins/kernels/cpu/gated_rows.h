// Rows with a gate, before the norm or after it: several at a time where they are short, as in rows.h. Products of the
// gate in front of a norm are held in float32, unless a row is too long: then they are computed a second time.
#pragma once

#include "kernels/cpu/gate.h"
#include "kernels/cpu/rows.h"

namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL {

template <class T, bool kRoundFirst>
class GatedRows {
 public:
  explicit GatedRows(const Problem& problem)
      : p_(problem), is_first_(p_.gate == contract::Gate::kSiluFirst), is_held_(is_first_ && padded(p_.n) <= kHeld) {}

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

  // Elements from `first` on, as many as a pair or the row has; the others are zero.
  __attribute__((always_inline)) void load_from(const void* tensor, int64_t row, int64_t first,
                                                Vector (&pair)[2]) const {
    const T* from = static_cast<const T*>(tensor) + row * p_.n + first;
    first + kPair <= p_.n ? load_pair(from, pair) : load_partial_pair(from, p_.n - first, pair);
  }

  __attribute__((always_inline)) void multiply_by_gate(int64_t row, int64_t i, Vector (&pair)[2]) const {
    Vector z[2];
    load_from(p_.operand, row, i, z);
    unrolled<2>(RMS_DEPLOY_BODY(half) { pair[half] *= gate_of(p_.gate, z[half]); });
  }

  // What is normalised.
  __attribute__((always_inline)) void load_source(int64_t row, int64_t i, Vector (&pair)[2]) const {
    load_from(p_.x, row, i, pair);
    if (is_first_) {
      multiply_by_gate(row, i, pair);
    }
  }

  float* held(int64_t slot) { return held_ + slot * padded(p_.n); }

  double sum_of_squares(int64_t row, int64_t slot) {
    double total = 0.0;
    for (int64_t begin = 0; begin < p_.n; begin += kChunk) {
      const int64_t end = std::min(begin + kChunk, p_.n);
      Vector sums[kRegisters] = {};
      for (int64_t i = begin; i < end; i += kLanes) {
        unrolled<kPairs>(RMS_DEPLOY_BODY(r) {
          const int64_t at = i + r * kPair;
          if (at < end) {
            Vector pair[2];
            load_source(row, at, pair);
            if (is_held_) {
              store(held(slot) + at, pair[0]);
              store(held(slot) + at + kWidth, pair[1]);
            }
            sums[2 * r] += pair[0] * pair[0];
            sums[2 * r + 1] += pair[1] * pair[1];
          }
        });
      }
      total += static_cast<double>(reduce<T>(sums));
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
    for (int64_t i = 0; i < p_.n; i += kPair) {
      Vector pair[2];
      load_source(row, i, pair);
      for (int64_t lane = 0; lane < kPair; ++lane) {
        const double value = static_cast<double>(pair[lane / kWidth][lane % kWidth]);
        total += value * value;
      }
    }
    return total;
  }

  // The scale as it is applied: in the order of T's pairs, rounded to T if the problem rounds before it scales.
  __attribute__((always_inline)) void load_scale(int64_t offset, int64_t i, Vector (&pair)[2]) const {
    if (p_.ordered_scale != nullptr) {
      load_pair(p_.ordered_scale + offset + i, pair);
    } else if (p_.scalar_scale) {
      const float value = scale_at(p_, offset);
      pair[0] = pair[1] = broadcast(kRoundFirst ? to_float(from_float<T>(value)) : quiet(value));
    } else if (kIsHeld<T> || p_.scale_type != p_.type) {
      const float* from = static_cast<const float*>(p_.scale) + offset + i;
      float factors[kPair];
      order<T, kRoundFirst>(from, factors, std::min<int64_t>(kPair, p_.n - i));
      load_pair(factors, pair);
    } else {
      const T* from = static_cast<const T*>(p_.scale) + offset + i;
      i + kPair <= p_.n ? load_pair(from, pair) : load_partial_pair(from, p_.n - i, pair);
    }
  }

  void write(int64_t row, int64_t slot) {
    const int64_t offset = scale_offset(p_, row);
    for (int64_t i = 0; i < p_.n; i += kPair) {
      Vector pair[2];
      Vector factors[2];
      if (is_held_) {
        load_pair(held(slot) + i, pair);
      } else {
        load_source(row, i, pair);
      }
      load_scale(offset, i, factors);
      unrolled<2>(
          RMS_DEPLOY_BODY(half) { pair[half] = scaled<T, kRoundFirst>(divided(pair[half], slot), factors[half]); });
      if (!is_first_) {
        unrolled<2>(RMS_DEPLOY_BODY(half) { pair[half] = kRoundFirst ? round_to<T>(pair[half]) : pair[half]; });
        multiply_by_gate(row, i, pair);
      }
      T* to = static_cast<T*>(p_.y) + row * p_.n + i;
      i + kPair <= p_.n ? store_pair<false>(to, pair) : store_partial_pair(to, pair, p_.n - i);
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
  const bool is_held_;
  double totals_[kMaxRows] = {};
  Statistics<kMaxRows> statistics_;
  alignas(64) float held_[kHeld];
};

}  // namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL
