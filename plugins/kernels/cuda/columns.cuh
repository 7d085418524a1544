// inner > 1: the elements of a column are `inner` apart, the columns are neighbours. A thread has kCount neighbouring
// columns; the x threads of a block lie along the columns, so that they read whole lines, and its y threads share the
// elements, in groups of kHeld each. The last group stays in registers between the statistic and the output (a
// usual column has one group); the others are read again.
#pragma once

#include "kernels/cuda/rows.cuh"

namespace rms_deploy::cuda {

inline constexpr int kHeld = 8;

// One sum per thread and column.
__device__ __forceinline__ float* column_sums() {
  __shared__ float sums[kColumnThreads * kWidth<uint16_t>];
  return sums;
}

// The sums over the y threads, in a fixed order.
template <int kCount>
__device__ __forceinline__ void sum_over_columns(float (&values)[kCount]) {
  float* sums = column_sums();
  const int columns = static_cast<int>(blockDim.x);
  const int thread = static_cast<int>(threadIdx.y) * columns + static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    sums[i * kColumnThreads + thread] = values[i];
  }
  for (int half = static_cast<int>(blockDim.y) / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.y) < half) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        sums[i * kColumnThreads + thread] += sums[i * kColumnThreads + thread + half * columns];
      }
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    values[i] = sums[i * kColumnThreads + static_cast<int>(threadIdx.x)];
  }
}

// The kCount columns of one thread: as many as 16 bytes hold, or 1.
template <class T, int kCount>
class Columns {
 public:
  __device__ __forceinline__ Columns(const Problem& problem, int64_t outer, int64_t column)
      : p_(problem), offset_(outer * problem.n * problem.inner + column), n_(column < problem.inner ? problem.n : 0) {}

  __device__ __forceinline__ int64_t groups() const {
    const int64_t group = static_cast<int64_t>(kHeld) * blockDim.y;
    return (p_.n + group - 1) / group;
  }

  // x, or x + residual rounded; zero for what does not exist.
  __device__ __forceinline__ void load(int64_t group, Pack (&held)[kHeld]) const {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int64_t number = element_of(group, i);
      held[i] = number < n_ ? load(p_.x, number) : Pack{};
    }
    if (p_.residual != nullptr) {
#pragma unroll
      for (int i = 0; i < kHeld; ++i) {
        const int64_t number = element_of(group, i);
        held[i] = added<T, kCount>(held[i], number < n_ ? load(p_.residual, number) : Pack{});
      }
    }
  }

  // A group has a sum of its own, which keeps the chains of additions short.
  __device__ __forceinline__ void add_squares(int64_t group, const Pack (&held)[kHeld], float (&totals)[kCount]) const {
    float sums[kCount] = {};
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      if (element_of(group, i) < p_.statistics_size) {
        const Floats<T, kCount> values(held[i]);
#pragma unroll
        for (int k = 0; k < kCount; ++k) {
          sums[k] += values.each[k] * values.each[k];
        }
      }
    }
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      totals[k] += sums[k];
    }
  }

  // The float64 sum of squares of column k.
  __device__ __forceinline__ double wide_sum(int k) const {
    double sum = 0.0;
#pragma unroll 1
    for (int64_t number = 0; number < p_.statistics_size; ++number) {
      sum += wide_square<T>(p_, offset_ + number * p_.inner + k);
    }
    return sum;
  }

  // Writes y, and the sum of an add-norm.
  __device__ __forceinline__ void write(int64_t group, const Pack (&held)[kHeld],
                                        const Divisor (&divisors)[kCount]) const {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int64_t number = element_of(group, i);
      keep_order();  // or the compiler works on all of them at once, in registers that other blocks need
      if (number < n_) {
        write(number, held[i], divisors);
      }
    }
  }

 private:
  // The number of this thread's i-th element of a group.
  __device__ __forceinline__ int64_t element_of(int64_t group, int i) const {
    return (group * kHeld + i) * blockDim.y + threadIdx.y;
  }

  __device__ __forceinline__ void write(int64_t number, const Pack& pack, const Divisor (&divisors)[kCount]) const {
    Floats<T, kCount> values(pack);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      values.each[k] = divisors[k].divide(values.each[k]);
    }
    round_to<T>(values, p_.round_before_scale);
    const float scale = applied_scale<T>(p_, number);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      values.each[k] *= scale;
    }
    if (p_.residual != nullptr && p_.sum != nullptr) {
      store(p_.sum, number, pack);
    }
    store(p_.y, number, values.rounded());
  }

  __device__ __forceinline__ Pack load(const void* tensor, int64_t number) const {
    const T* from = static_cast<const T*>(tensor) + offset_ + number * p_.inner;
    Pack pack = {};
    if constexpr (kCount == 1) {
      set(pack, 0, *from);
    } else {
      pack = load_pack(from);
    }
    return pack;
  }

  __device__ __forceinline__ void store(void* tensor, int64_t number, const Pack& pack) const {
    T* to = static_cast<T*>(tensor) + offset_ + number * p_.inner;
    if constexpr (kCount == 1) {
      *to = element<T>(pack, 0);
    } else {
      store_pack(to, pack);
    }
  }

  const Problem& p_;
  int64_t offset_;
  int64_t n_;  // a column that does not exist has no elements
};

template <class T, int kCount>
__device__ __forceinline__ void norm_columns(const Arguments& arguments) {
  const Problem& p = arguments.problem;
  const int64_t tile = arguments.first + static_cast<int64_t>(blockIdx.x);
  const int64_t column = (tile % arguments.tiles * blockDim.x + threadIdx.x) * kCount;
  const Columns<T, kCount> columns(p, tile / arguments.tiles, column);
  const int64_t groups = columns.groups();
  Pack held[kHeld];
  float sums[kCount] = {};
  for (int64_t group = 0; group < groups; ++group) {
    columns.load(group, held);
    columns.add_squares(group, held, sums);
  }
  sum_over_columns(sums);
  Divisor divisors[kCount];
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    bool holds;
    divisors[k] = divisor_of(sums[k], p, holds);
    if (!holds && column < p.inner) {  // every thread sums the whole column: slow, rare, and little code
      divisors[k] = wide_divisor(columns.wide_sum(k), p);
    }
    divisors[k] = reciprocal_rounded<T>(divisors[k], p);
  }
  __syncthreads();  // no thread writes in place what another still sums
  for (int64_t group = groups - 1; group >= 0; --group) {
    if (group < groups - 1) {
      columns.load(group, held);
    }
    columns.write(group, held, divisors);
  }
}

}  // namespace rms_deploy::cuda
