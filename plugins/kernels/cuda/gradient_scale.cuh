// grad_scale. `gradient_any_scale` reads x and grad_y of rows that gradient_rows does not take, a tile of columns per
// block; `gradient_reduce` adds the shares of its blocks, or of those of gradient_rows.
#pragma once

#include "kernels/cuda/gradient_terms.cuh"

namespace rms_deploy::cuda {

// The sum over the kRows warps of a block, each of which has the same 32 columns; for the first warp alone.
template <int kRows>
__device__ __forceinline__ float sum_over_warps(float share) {
  float* const shares = column_shares();
  shares[threadIdx.y * kWarp + threadIdx.x] = share;
  __syncthreads();
  float sum = 0.0F;
  if (threadIdx.y == 0) {
#pragma unroll
    for (int y = 0; y < kRows; ++y) {
      sum += shares[y * kWarp + static_cast<int>(threadIdx.x)];
    }
  }
  return sum;
}

// A warp has 32 neighbouring columns of one row after the other; blockIdx.y is the part of the rows.
template <class T>
__device__ __forceinline__ void gradient_any_scale(const GradientArguments& arguments) {
  const Gradient& gradient = arguments.gradient;
  const Problem& p = gradient.norm;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarp + threadIdx.x;
  float share = 0.0F;
  const int64_t step = static_cast<int64_t>(gridDim.y) * kScaleRows;
  for (int64_t row = static_cast<int64_t>(blockIdx.y) * kScaleRows + threadIdx.y; row < p.outer && column < p.n;
       row += step) {
    const Divisor divisor = arguments.divisors[row];
    const float x = to_float(static_cast<const T*>(p.x)[row * p.n + column]);
    share += to_float(static_cast<const T*>(gradient.grad_y)[row * p.n + column]) * divisor.divide(x);
  }
  const float sum = sum_over_warps<kScaleRows>(share);
  if (threadIdx.y == 0 && column < p.n) {
    arguments.shares[static_cast<int64_t>(blockIdx.y) * p.n + column] = sum;
  }
}

// The sums over the parts. A warp adds the shares of 32 columns in every 32nd part.
template <class S>
__device__ __forceinline__ void gradient_reduce(const GradientArguments& arguments) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarp + threadIdx.x;
  float share = 0.0F;
#pragma unroll 4
  for (int64_t part = threadIdx.y; part < arguments.parts && column < arguments.columns; part += kReduceRows) {
    share += arguments.shares[part * arguments.columns + column];
  }
  const float total = sum_over_warps<kReduceRows>(share);
  if (threadIdx.y == 0 && column < arguments.columns) {
    static_cast<S*>(arguments.total)[column] = from_float<S>(total);
  }
}

}  // namespace rms_deploy::cuda
