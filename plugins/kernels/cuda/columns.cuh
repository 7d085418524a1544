// inner > 1: the elements of a column are `inner` apart, the columns are neighbours. A thread has kCount neighbouring
// columns, as wide as the rows are aligned; the x threads of a block lie along the columns, so that they read whole
// lines, and its y threads share the elements, in groups of kHeld each. The last group stays in registers between the
// statistic and the output (a usual column has one group); the others are read again.
//
// Rows of an odd number of 16-bit elements are folded: two rows are taken as one of twice the columns, which starts at
// a multiple of 4 bytes. A column then has a second half, `inner` columns further on, in the same block.
#pragma once

#include "kernels/cuda/rows.cuh"

namespace rms_deploy::cuda {

// One sum per thread and column: at most 1024 threads of 4 columns, or 256 of 8; of float64, one column at a time.
template <class Sum>
__device__ __forceinline__ Sum* column_sums() {
  __shared__ double sums[4 * kMaxColumnThreads<8> * sizeof(float) / sizeof(double)];
  return reinterpret_cast<Sum*>(sums);
}

__device__ __forceinline__ int threads_of_block() { return static_cast<int>(blockDim.x * blockDim.y); }

// The sums over the y threads, in a fixed order.
template <int kCount, class Sum>
__device__ __forceinline__ void sum_over_columns(Sum (&values)[kCount]) {
  Sum* sums = column_sums<Sum>();
  const int threads = threads_of_block();
  const int columns = static_cast<int>(blockDim.x);
  const int thread = static_cast<int>(threadIdx.y) * columns + static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    sums[i * threads + thread] = values[i];
  }
  for (int half = static_cast<int>(blockDim.y) / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.y) < half) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        sums[i * threads + thread] += sums[i * threads + thread + half * columns];
      }
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    values[i] = sums[i * threads + static_cast<int>(threadIdx.x)];
  }
}

// Adds to the sum of each column that of its other half, from the shared memory that sum_over_columns has left.
template <int kCount>
__device__ __forceinline__ void add_other_halves(int inner, float (&values)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const int column = static_cast<int>(threadIdx.x) * kCount + i;
    if (column < 2 * inner) {
      const int other = column < inner ? column + inner : column - inner;
      values[i] += column_sums<float>()[other % kCount * threads_of_block() + other / kCount];
    }
  }
}

// The kCount columns of one thread.
template <class T, int kCount>
class Columns {
 public:
  // Two halves can lie in one access.
  static constexpr bool kFolds = sizeof(T) == 2 && kCount == 2;
  static constexpr int kHalves = kFolds ? 2 : 1;

  // Of one element, or of one in each half.
  struct Scales {
    float each[kHalves];
  };
  // Scales on their way at once: as many as the registers hold.
  static constexpr int kBatch = kCount * sizeof(T) == 16 ? kHeld : kCount * sizeof(T) == 8 ? 1 : 2;

  __device__ __forceinline__ Columns(const Arguments& arguments, int64_t outer, int64_t column)
      : p_(arguments.problem),
        column_(column),
        fold_(kFolds ? arguments.fold : 1),
        offset_(outer * p_.n * p_.inner + column),
        scale_(scale_of<T>(p_, outer)),
        n_(column < p_.inner * fold_ ? p_.n / fold_ : 0) {}

  __device__ __forceinline__ bool exists() const { return n_ > 0; }

  __device__ __forceinline__ int64_t groups() const {
    const int64_t group = static_cast<int64_t>(kHeld) * blockDim.y;
    return (p_.n / fold_ + group - 1) / group;
  }

  // x, or x + residual rounded; zero for what does not exist.
  __device__ __forceinline__ void load(int64_t group, Pack (&held)[kHeld]) const {
    load(p_.x, group, held);
    if (p_.operand != nullptr) {
      Pack residual[kHeld];
      load(p_.operand, group, residual);
#pragma unroll
      for (int i = 0; i < kHeld; ++i) {
        held[i] = added<T, kCount>(held[i], residual[i]);
      }
    }
  }

  // A group has a sum of its own, which keeps the chains of additions short.
  __device__ __forceinline__ void add_squares(int64_t group, const Pack (&held)[kHeld], float (&totals)[kCount]) const {
    const int end = end_of(group, p_.statistics_size / fold_);
    float sums[kCount] = {};
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      if (number_of(i) < end) {
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

  // What this thread adds to the float64 sum of squares of column k.
  __device__ __forceinline__ double wide_sum(int k) const {
    const int64_t first = offset_ + k - (is_second_half(k) ? p_.inner : 0);
    double sum = 0.0;
#pragma unroll 1
    for (int64_t number = threadIdx.y; number < p_.statistics_size; number += blockDim.y) {
      sum += wide_square<T>(p_, first + number * p_.inner);
    }
    return sum;
  }

  // Writes y, and the sum of an add-norm.
  __device__ __forceinline__ void write(int64_t group, const Pack (&held)[kHeld],
                                        const Divisor (&divisors)[kCount]) const {
    const int end = end_of(group, n_);
    int64_t number = anew(first_of(group));
    int64_t at = offset_ + number * p_.inner * fold_;
#pragma unroll
    for (int batch = 0; batch < kHeld; batch += kBatch) {
      Scales scales[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        scales[i] = number_of(batch + i) < end ? scales_of(number) : Scales{};
        number += blockDim.y;
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        keep_order();  // or the compiler works on all of them at once, in registers that other blocks need
        if (number_of(batch + i) < end) {
          write(at, held[batch + i], scales[i], divisors);
        }
        at += step();
      }
    }
  }

 private:
  // The first element of a group, and of it the elements before `end`, as far as a group goes.
  __device__ __forceinline__ int64_t first_of(int64_t group) const { return group * kHeld * blockDim.y + threadIdx.y; }

  __device__ __forceinline__ int end_of(int64_t group, int64_t end) const {
    const int64_t left = end - group * kHeld * blockDim.y;
    const int most = kHeld * static_cast<int>(blockDim.y);
    return left < most ? static_cast<int>(left) : most;
  }

  // The number of this thread's i-th element within a group.
  __device__ __forceinline__ int number_of(int i) const {
    return i * static_cast<int>(blockDim.y) + static_cast<int>(threadIdx.y);
  }

  // Elements of the tensor from one of this thread's to its next.
  __device__ __forceinline__ int64_t step() const { return p_.inner * fold_ * blockDim.y; }

  __device__ __forceinline__ Scales scales_of(int64_t number) const {
    Scales scales;
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      scales.each[half] = half < fold_ ? applied_scale<T>(p_, scale_, number * fold_ + half) : 0.0F;
    }
    return scales;
  }

  __device__ __forceinline__ void write(int64_t at, const Pack& pack, const Scales& scales,
                                        const Divisor (&divisors)[kCount]) const {
    Floats<T, kCount> values(pack);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      values.each[k] = divisors[k].divide(values.each[k]);
    }
    round_to<T>(values, p_.round_before_scale);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      values.each[k] *= is_second_half(k) ? scales.each[kHalves - 1] : scales.each[0];
    }
    if (p_.operand != nullptr && p_.sum != nullptr) {
      store_part<kCount * sizeof(T)>(static_cast<T*>(p_.sum) + at, pack);
    }
    store_part<kCount * sizeof(T)>(static_cast<T*>(p_.y) + at, values.rounded());
  }

  __device__ __forceinline__ bool is_second_half(int k) const { return kFolds && column_ + k >= p_.inner; }

  __device__ __forceinline__ void load(const void* tensor, int64_t group, Pack (&held)[kHeld]) const {
    const int end = end_of(group, n_);
    const T* from = static_cast<const T*>(tensor) + offset_ + first_of(anew(group)) * p_.inner * fold_;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      held[i] = number_of(i) < end ? load_part<kCount * sizeof(T)>(from) : Pack{};
      from += step();
    }
  }

  const Problem& p_;
  int64_t column_;
  int64_t fold_;  // rows of the tensor in one row here
  int64_t offset_;
  const void* scale_;
  int64_t n_;  // a column that does not exist has no elements
};

// The divisors that only float64 can hold; `bad` has a bit for each column. All threads of a block take part. After the
// barriers of a sum no thread reads what another writes in place.
template <class T, int kCount>
__device__ __forceinline__ void set_wide_divisors(const Columns<T, kCount>& columns, const Arguments& arguments,
                                                  unsigned bad, Divisor (&divisors)[kCount]) {
#pragma unroll 1
  for (int k = 0; k < kCount; ++k) {
    const bool is_bad = (bad >> k & 1U) != 0;
    if (__syncthreads_or(is_bad)) {
      double sum[1] = {is_bad ? columns.wide_sum(k) : 0.0};
      sum_over_columns(sum);
      const Divisor wide = wide_divisor(sum[0], arguments.problem, arguments.inverse_size);
#pragma unroll
      for (int i = 0; i < kCount; ++i) {  // a register has no number that is known at run time
        divisors[i] = i == k && is_bad ? wide : divisors[i];
      }
    }
  }
}

template <class T, int kCount>
__device__ __forceinline__ void norm_columns(const Arguments& arguments) {
  const Problem& p = arguments.problem;
  const int64_t tile = arguments.first + static_cast<int64_t>(blockIdx.x);
  const int64_t column = (tile % arguments.tiles * blockDim.x + threadIdx.x) * kCount;
  const Columns<T, kCount> columns(arguments, tile / arguments.tiles, column);
  const int64_t groups = columns.groups();
  Pack held[kHeld];
  float sums[kCount] = {};
#pragma unroll 1
  for (int64_t group = 0; group < groups; ++group) {
    columns.load(group, held);
    columns.add_squares(group, held, sums);
  }
  sum_over_columns(sums);
  if (Columns<T, kCount>::kFolds && arguments.fold == 2) {
    add_other_halves(static_cast<int>(p.inner), sums);
  }
  Divisor divisors[kCount];
  unsigned bad = 0;
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    bool holds;
    divisors[k] = divisor_of(sums[k], p, arguments.inverse_size, holds);
    bad |= !holds && columns.exists() ? 1U << k : 0U;
  }
  if (__syncthreads_or(bad != 0)) {
    set_wide_divisors(columns, arguments, bad, divisors);
  }
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    divisors[k] = reciprocal_rounded<T>(divisors[k], p);
  }
#pragma unroll 1
  for (int64_t group = groups - 1; group >= 0; --group) {
    if (group < groups - 1) {
      columns.load(group, held);
    }
    columns.write(group, held, divisors);
  }
}

}  // namespace rms_deploy::cuda
