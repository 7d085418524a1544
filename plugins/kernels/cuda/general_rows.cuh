// inner = 1, for what the other kernels leave out: a shift, a sum that is normalised in float32 or has another type
// than x, a quantised y. Any length: a block that can hold a row reads it once; a longer row is read twice.
//
// As with a gate, one kernel is for aligned rows: it takes fewer instructions, and 64 registers, so that a
// multiprocessor has twice as many threads.
#pragma once

#include <type_traits>

#include "kernels/cuda/rows.cuh"
#include "kernels/quantized.h"

namespace rms_deploy::cuda {

template <class T, bool kAligned>
class GeneralRow : public Row<T, kAnyRowVectors, kAligned, std::conditional_t<kAligned, int, int64_t>> {
 public:
  using Index = std::conditional_t<kAligned, int, int64_t>;
  using Base = Row<T, kAnyRowVectors, kAligned, Index>;
  using Held = Floats<T>[kAnyRowVectors];

  __device__ __forceinline__ GeneralRow(const Arguments& arguments, int64_t row)
      : Base(arguments, row), first_(row * this->p_.n), row_(row) {}

  // x, or x + residual, which is not rounded yet.
  __device__ __forceinline__ void load(Index chunk, Held& held) const {
    Pack x[kAnyRowVectors];
#pragma unroll
    for (int i = 0; i < kAnyRowVectors; ++i) {
      x[i] = Base::load(row_of<T>(this->p_.x), this->first(chunk, i));
    }
    Pack residual[kAnyRowVectors][2] = {};
#pragma unroll
    for (int i = 0; i < kAnyRowVectors; ++i) {
      if (has_wide_sum()) {
        load_wide(this->first(chunk, i), residual[i]);
      } else if (this->p_.operand != nullptr) {
        residual[i][0] = Base::load(row_of<T>(this->p_.operand), this->first(chunk, i));
      }
    }
#pragma unroll
    for (int i = 0; i < kAnyRowVectors; ++i) {
      held[i] = Floats<T>(x[i]);
      if (this->p_.operand != nullptr) {
        add(held[i], has_wide_sum() ? floats_of(residual[i]) : Floats<T>(residual[i][0]));
      }
    }
  }

  // What this thread adds to the sum of squares.
  __device__ __forceinline__ float squares(Index chunk, const Held& held) const {
    Floats<T> values[kAnyRowVectors];
#pragma unroll
    for (int i = 0; i < kAnyRowVectors; ++i) {
      values[i] = held[i];
      round_to<T>(values[i], rounds_sum());
    }
    return Base::squares(chunk, values);
  }

  // Writes y, and the sum of an add-norm.
  __device__ __forceinline__ void write(Index chunk, const Held& held, const Divisor& divisor) const {
#pragma unroll
    for (int i = 0; i < kAnyRowVectors; ++i) {
      const Index begin = this->first(chunk, i);
      if (this->p_.operand != nullptr && this->p_.sum != nullptr) {
        store_sum(begin, held[i]);
      }
      Floats<T> values = held[i];
      round_to<T>(values, rounds_sum());
      this->norm(values, divisor, this->scale(chunk, i));
      if (this->p_.shift != nullptr) {
        round_to<T>(values, this->p_.round_before_scale);
        add(values, this->weights(row_of_shift(), begin));
      }
      if (this->p_.quantized_type == contract::QuantizedType::kNone) {
        this->store(row_of<T>(this->p_.y), begin, values.rounded());
      } else {
        store_codes(begin, values);
      }
    }
  }

 private:
  // The compiler keeps no address of an aligned row: with those of six tensors it has too few registers.
  template <class E>
  __device__ __forceinline__ const E* row_of(const void* tensor) const {
    return static_cast<const E*>(tensor) + (kAligned ? anew(first_) : first_);
  }

  template <class E>
  __device__ __forceinline__ E* row_of(void* tensor) const {
    return static_cast<E*>(tensor) + (kAligned ? anew(first_) : first_);
  }

  __device__ __forceinline__ const void* row_of_shift() const {
    return weights_of<T>(this->p_, this->p_.shift, kAligned ? anew(row_) : row_);
  }

  // Whether the residual and the sum are float32, and x is not.
  __device__ __forceinline__ bool has_wide_sum() const {
    return sizeof(T) == 2 && this->p_.operand != nullptr && this->p_.sum_type == contract::ElementType::kFloat32;
  }

  __device__ __forceinline__ bool rounds_sum() const {
    return this->p_.operand != nullptr && !this->p_.normalizes_float32_sum;
  }

  __device__ __forceinline__ static void add(Floats<T>& values, const Floats<T>& others) {
#pragma unroll
    for (int k = 0; k < kWidth<T>; ++k) {
      values.each[k] += others.each[k];
    }
  }

  // Of packs of float32.
  __device__ __forceinline__ static Floats<T> floats_of(const Pack (&packs)[2]) {
    Floats<T> values;
#pragma unroll
    for (int k = 0; k < kWidth<T>; ++k) {
      values.each[k] = element<float>(packs[k / 4], k % 4);
    }
    return values;
  }

  // Whether the elements of a pack of x can be accessed there as packs, or as a part of one.
  template <int kBytes>
  __device__ __forceinline__ bool is_whole(const void* place, Index begin) const {
    constexpr int kMost = kWidth<T> * kBytes < 16 ? kWidth<T> * kBytes : 16;
    return Base::is_whole(begin) && (kAligned || misalignment_of(place) % kMost == 0);
  }

  __device__ __forceinline__ void load_wide(Index begin, Pack (&packs)[2]) const {
    const float* from = row_of<float>(this->p_.operand) + begin;
    if (is_whole<4>(from, begin)) {
      packs[0] = load_pack(from);
      packs[1] = load_pack(from + 4);
    } else if constexpr (!kAligned) {
#pragma unroll
      for (int k = 0; k < kWidth<T>; ++k) {
        packs[k / 4].words[k % 4] = this->has(begin + k) ? bits_of(from[k]) : 0;
      }
    }
  }

  __device__ __forceinline__ void store_sum(Index begin, const Floats<T>& sum) const {
    if (!has_wide_sum()) {
      this->store(row_of<T>(this->p_.sum), begin, sum.rounded());
      return;
    }
    float* to = row_of<float>(this->p_.sum) + begin;
    if (is_whole<4>(to, begin)) {
#pragma unroll
      for (int k = 0; k < kWidth<T>; k += 4) {
        const Pack pack = {
            {bits_of(sum.each[k]), bits_of(sum.each[k + 1]), bits_of(sum.each[k + 2]), bits_of(sum.each[k + 3])}};
        store_pack(to + k, pack);
      }
    } else if constexpr (!kAligned) {
#pragma unroll
      for (int k = 0; k < kWidth<T>; ++k) {
        if (this->has(begin + k)) {
          to[k] = sum.each[k];
        }
      }
    }
  }

  __device__ __forceinline__ void store_codes(Index begin, Floats<T> values) const {
    round_to<T>(values, true);
#pragma unroll
    for (int k = 0; k < kWidth<T>; ++k) {
      values.each[k] /= this->p_.y_scale;
    }
    round_to<T>(values, this->p_.round_quotient);
    Pack codes = {};
#pragma unroll
    for (int k = 0; k < kWidth<T>; k += 2) {
      const uint32_t pair = quantized_pair(this->p_.quantized_type, values.each[k], values.each[k + 1]);
      codes.words[k / 4] |= pair << k % 4 * 8;
    }
    uint8_t* to = row_of<uint8_t>(this->p_.y) + begin;
    if (is_whole<1>(to, begin)) {
      store_part<kWidth<T>>(to, codes);
    } else if constexpr (!kAligned) {
#pragma unroll
      for (int k = 0; k < kWidth<T>; ++k) {
        if (this->has(begin + k)) {
          to[k] = static_cast<uint8_t>(codes.words[k / 4] >> k % 4 * 8);
        }
      }
    }
  }

  int64_t first_;  // element of the row, in all tensors
  int64_t row_;
};

template <class T, bool kAligned>
__device__ __forceinline__ void norm_general_rows(const Arguments& arguments) {
  using Index = typename GeneralRow<T, kAligned>::Index;
  const int64_t number = arguments.first + static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  const GeneralRow<T, kAligned> row(arguments, number);
  const Index last = row.chunks() - 1;
  typename GeneralRow<T, kAligned>::Held held;
  float sum = 0.0F;
  for (Index chunk = 0; chunk <= last; ++chunk) {
    row.load(chunk, held);
    sum += row.squares(chunk, held);
  }
  const Divisor divisor = row_divisor<T, true>(arguments, number, sum);
  for (Index chunk = last; chunk >= 0; --chunk) {
    if (chunk < last) {  // the last one is still held
      row.load(chunk, held);
    }
    row.write(chunk, held, divisor);
  }
}

}  // namespace rms_deploy::cuda
