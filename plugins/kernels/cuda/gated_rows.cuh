// inner = 1, with a gate in front of the norm or behind it: any length. A block that can hold a row reads it once; a
// longer row is read twice.
//
// One kernel could serve rows of any alignment. That for aligned rows takes fewer instructions (of PTX, 32 for an
// element of bfloat16 instead of 42) and 64 registers, so that a multiprocessor has twice as many threads.
#pragma once

#include <type_traits>

#include "kernels/cuda/rows.cuh"

namespace rms_deploy::cuda {

template <class T, bool kAligned>
class GatedRow : public Row<T, kAnyRowVectors, kAligned, std::conditional_t<kAligned, int, int64_t>> {
 public:
  using Index = std::conditional_t<kAligned, int, int64_t>;
  using Base = Row<T, kAnyRowVectors, kAligned, Index>;
  using Base::Base;

  struct Held {
    Floats<T> source[kAnyRowVectors];  // what is normalised; a gated x is not rounded to T
    Pack z[kAnyRowVectors];
  };

  // Both tensors are on their way at once. z is left out where neither the gate in front of the norm nor the caller
  // needs it.
  __device__ __forceinline__ void load(Index chunk, bool needs_z, Held& held) const {
    Pack x[kAnyRowVectors];
#pragma unroll
    for (int i = 0; i < kAnyRowVectors; ++i) {
      x[i] = Base::load(this->x_, this->first(chunk, i));
      held.z[i] = needs_z || is_gated_first() ? Base::load(this->operand_, this->first(chunk, i)) : Pack{};
    }
#pragma unroll
    for (int i = 0; i < kAnyRowVectors; ++i) {
      held.source[i] = Floats<T>(x[i]);
      if (is_gated_first()) {
        multiply_by_gate(held.source[i], held.z[i]);
      }
    }
  }

  // Writes y.
  __device__ __forceinline__ void write(Index chunk, const Held& held, const Divisor& divisor) const {
#pragma unroll
    for (int i = 0; i < kAnyRowVectors; ++i) {
      Floats<T> values = held.source[i];
      this->norm(values, divisor, this->scale(chunk, i));
      if (!is_gated_first()) {
        round_to<T>(values, this->p_.round_before_scale);
        multiply_by_gate(values, held.z[i]);
      }
      this->store(this->y_, this->first(chunk, i), values.rounded());
    }
  }

 private:
  __device__ __forceinline__ bool is_gated_first() const { return this->p_.gate == contract::Gate::kSiluFirst; }

  __device__ __forceinline__ void multiply_by_gate(Floats<T>& values, const Pack& z) const {
    const Floats<T> gates(z);
#pragma unroll
    for (int k = 0; k < kWidth<T>; ++k) {
      values.each[k] *= gate_of(this->p_.gate, gates.each[k]);
    }
  }
};

template <class T, bool kAligned>
__device__ __forceinline__ void norm_gated_rows(const Arguments& arguments) {
  using Index = typename GatedRow<T, kAligned>::Index;
  const int64_t number = arguments.first + static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  const GatedRow<T, kAligned> row(arguments, number);
  const Index last = row.chunks() - 1;
  typename GatedRow<T, kAligned>::Held held;
  float sum = 0.0F;
  for (Index chunk = 0; chunk <= last; ++chunk) {
    row.load(chunk, chunk == last, held);
    sum += row.squares(chunk, held.source);
  }
  const Divisor divisor = row_divisor<T, true>(arguments, number, sum);
  for (Index chunk = last; chunk >= 0; --chunk) {
    if (chunk < last) {  // the last one is still held
      row.load(chunk, true, held);
    }
    row.write(chunk, held, divisor);
  }
}

}  // namespace rms_deploy::cuda
