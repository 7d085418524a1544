// inner > 1: the elements of a column are `inner` apart, the columns are neighbours. A thread has kCount neighbouring
// columns; the x threads of a block lie along the columns, so that they read whole lines, and its y threads share the
// elements. The first kHeld elements of each thread stay in registers between the statistic and the output; the rest,
// of columns longer than kHeld * blockDim.y, is read again.
#pragma once

#include "kernels/cuda/rows.cuh"

namespace rms_deploy::cuda {

inline constexpr int kColumnThreads = 256;
inline constexpr int kHeld = 8;

// One sum per thread and column.
__device__ __forceinline__ float* column_sums() {
  __shared__ float sums[kColumnThreads * kWidth<uint16_t>];
  return sums;
}

// The sums over the y threads, in a fixed order. A barrier must lie between two calls.
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

// kCount columns of one thread: all 16 bytes, or 1.
template <class T, int kCount>
class Columns {
 public:
  __device__ __forceinline__ Columns(const Problem& problem, int64_t outer, int64_t column)
      : p_(problem),
        offset_(outer * problem.n * problem.inner + column),
        n_(column < problem.inner ? problem.n : 0),
        size_(column < problem.inner ? problem.statistics_size : 0) {}

  // Where the first of the columns has its element `number`.
  __device__ __forceinline__ int64_t at(int64_t number) const { return offset_ + number * p_.inner; }
  // The number of this thread's i-th element.
  __device__ __forceinline__ int64_t element_at(int64_t i) const { return threadIdx.y + i * blockDim.y; }
  __device__ __forceinline__ bool has(int64_t i) const { return element_at(i) < n_; }

  __device__ __forceinline__ Pack load(int64_t i) const {
    Pack pack = {};
    if (has(i)) {
      pack = load(p_.x, i);
      if (p_.residual != nullptr) {
        pack = added<T, kCount>(pack, load(p_.residual, i));
      }
    }
    return pack;
  }

  __device__ __forceinline__ void add_squares(int64_t i, const Pack& pack, float (&sums)[kCount]) const {
    if (element_at(i) < size_) {
      const Floats<T, kCount> values(pack);
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        sums[k] += values.each[k] * values.each[k];
      }
    }
  }

  __device__ __forceinline__ void write(int64_t i, const Pack& pack, const Divisor (&divisors)[kCount]) const {
    if (!has(i)) {
      return;
    }
    Floats<T, kCount> values(pack);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      values.each[k] = divisors[k].divide(values.each[k]);
    }
    round_to<T>(values, p_.round_before_scale);
    const float scale = applied_scale<T>(p_, element_at(i));
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      values.each[k] *= scale;
    }
    if (p_.residual != nullptr && p_.sum != nullptr) {
      store(p_.sum, i, pack);
    }
    store(p_.y, i, values.rounded());
  }

 private:
  __device__ __forceinline__ Pack load(const void* tensor, int64_t i) const {
    const T* from = static_cast<const T*>(tensor) + at(element_at(i));
    Pack pack = {};
    if constexpr (kCount == 1) {
      set(pack, 0, *from);
    } else {
      pack = load_pack(from);
    }
    return pack;
  }

  __device__ __forceinline__ void store(void* tensor, int64_t i, const Pack& pack) const {
    T* to = static_cast<T*>(tensor) + at(element_at(i));
    if constexpr (kCount == 1) {
      *to = element<T>(pack, 0);
    } else {
      store_pack(to, pack);
    }
  }

  const Problem& p_;
  int64_t offset_;
  int64_t n_;
  int64_t size_;
};

template <class T, int kCount>
__global__ void __launch_bounds__(kColumnThreads) norm_columns(const Arguments arguments) {
  const Problem& p = arguments.problem;
  const int64_t tile = arguments.first + static_cast<int64_t>(blockIdx.x);
  const int64_t column = (tile % arguments.tiles * blockDim.x + threadIdx.x) * kCount;
  const Columns<T, kCount> columns(p, tile / arguments.tiles, column);
  Pack held[kHeld];
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    held[i] = columns.load(i);
  }
  float sums[kCount] = {};
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    columns.add_squares(i, held[i], sums);
  }
  for (int64_t i = kHeld; columns.has(i); ++i) {
    columns.add_squares(i, columns.load(i), sums);
  }
  sum_over_columns(sums);
  Divisor divisors[kCount];
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    bool holds;
    divisors[k] = divisor_of(sums[k], p, holds);
    if (!holds && column < p.inner) {
      // Every thread sums the whole column: slow, and no more code than it must be.
      double sum = 0.0;
#pragma unroll 1
      for (int64_t i = 0; i < p.statistics_size; ++i) {
        sum += wide_square<T>(p, columns.at(i) + k);
      }
      divisors[k] = wide_divisor(sum, p);
    }
  }
  // No thread may write in place what another still sums.
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    columns.write(i, held[i], divisors);
  }
  for (int64_t i = kHeld; columns.has(i); ++i) {
    columns.write(i, columns.load(i), divisors);
  }
}

}  // namespace rms_deploy::cuda
