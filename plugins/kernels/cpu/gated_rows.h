// Rows with a gate, before the norm or after it. A row is read for its sum of squares, then read again and written; the
// gate in front of a norm is computed both times.
#pragma once

#include "kernels/cpu/gate.h"
#include "kernels/cpu/rows.h"

namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL {

template <class T, bool kRoundFirst>
class GatedRows {
 public:
  explicit GatedRows(const Problem& problem) : p_(problem) {}

  void norm(int64_t first, int64_t last) const {
    for (int64_t row = first; row < last; ++row) {
      Statistics<kDoubles> statistics;
      take_statistic(row, statistics);
      write(row, statistics);
    }
  }

 private:
  bool is_gated_first() const { return p_.gate == contract::Gate::kSiluFirst; }

  // Elements from `first` on, as many as a pair or the row has; the others are zero.
  template <class Element>
  void load_from(const void* tensor, int64_t row, int64_t first, Vector (&pair)[2]) const {
    const Element* from = static_cast<const Element*>(tensor) + row * p_.n + first;
    first + kPair <= p_.n ? load_pair(from, pair) : load_partial_pair(from, p_.n - first, pair);
  }

  void load_gate(int64_t row, int64_t i, Vector (&gate)[2]) const {
    load_from<T>(p_.operand, row, i, gate);
    unrolled<2>(RMS_DEPLOY_BODY(half) { gate[half] = gate_of(p_.gate, gate[half]); });
  }

  // What is normalised.
  void load_source(int64_t row, int64_t i, Vector (&pair)[2]) const {
    load_from<T>(p_.x, row, i, pair);
    if (is_gated_first()) {
      Vector gate[2];
      load_gate(row, i, gate);
      unrolled<2>(RMS_DEPLOY_BODY(half) { pair[half] *= gate[half]; });
    }
  }

  void take_statistic(int64_t row, Statistics<kDoubles>& statistics) const {
    double totals[kDoubles] = {};
    for (int64_t begin = 0; begin < p_.n; begin += kChunk) {
      const int64_t end = std::min(begin + kChunk, p_.n);
      Vector sums[kRegisters] = {};
      for (int64_t i = begin; i < end; i += kLanes) {
        unrolled<kPairs>(RMS_DEPLOY_BODY(r) {
          if (i + r * kPair < end) {
            Vector pair[2];
            load_source(row, i + r * kPair, pair);
            sums[2 * r] += pair[0] * pair[0];
            sums[2 * r + 1] += pair[1] * pair[1];
          }
        });
      }
      totals[0] += static_cast<double>(reduce<T>(sums));
    }
    if (take_statistics<T>(totals, 1, p_, statistics) && statistics.wide[0]) {
      set_wide<T>(root_mean_square(sum_of_squares_float64(row), p_), p_, statistics, 0);
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
  void load_scale(int64_t row, int64_t i, Vector (&pair)[2]) const {
    if (p_.ordered_scale != nullptr) {
      return load_pair(p_.ordered_scale + i, pair);
    }
    const int64_t offset = scale_offset(p_, row);
    if (!kIsHeld<T> && !p_.scalar_scale && p_.scale_type == p_.type) {
      const T* from = static_cast<const T*>(p_.scale) + offset + i;
      return i + kPair <= p_.n ? load_pair(from, pair) : load_partial_pair(from, p_.n - i, pair);
    }
    float factors[kPair] = {};
    for (int64_t k = 0; k < kPair && i + k < p_.n; ++k) {
      factors[k] = scale_at(p_, offset + (p_.scalar_scale ? 0 : i + k));
    }
    float ordered[kPair];
    order<T, kRoundFirst>(factors, ordered, kPair);
    load_pair(ordered, pair);
  }

  void write(int64_t row, const Statistics<kDoubles>& statistics) const {
    for (int64_t i = 0; i < p_.n; i += kPair) {
      Vector pair[2];
      Vector factors[2];
      load_source(row, i, pair);
      load_scale(row, i, factors);
      unrolled<2>(RMS_DEPLOY_BODY(half) {
        pair[half] = scaled<T, kRoundFirst>(divided(pair[half], statistics), factors[half]);
      });
      if (!is_gated_first()) {
        Vector gate[2];
        load_gate(row, i, gate);
        unrolled<2>(
            RMS_DEPLOY_BODY(half) { pair[half] = (kRoundFirst ? round_to<T>(pair[half]) : pair[half]) * gate[half]; });
      }
      T* to = static_cast<T*>(p_.y) + row * p_.n + i;
      i + kPair <= p_.n ? store_pair<false>(to, pair) : store_partial_pair(to, pair, p_.n - i);
    }
  }

  static Vector divided(Vector value, const Statistics<kDoubles>& statistics) {
    if (!statistics.wide[0]) {
      return divide<T>(value, broadcast(statistics.high[0]), broadcast(statistics.low[0]));
    }
    for (int lane = 0; lane < kWidth; ++lane) {
      value[lane] = static_cast<float>(static_cast<double>(value[lane]) / statistics.rms[0]);
    }
    return value;
  }

  const Problem& p_;
};

}  // namespace rms_deploy::cpu::RMS_DEPLOY_LEVEL
