// `gradient_rows`, for aligned rows of whole packs that one block can hold, keeps a row of x and of grad_y in registers
// between the sums and the output, so that memory is read once. A block walks over several rows, and a thread has the
// same columns in each: it adds up grad_scale of these as it goes.
#pragma once

#include "kernels/cuda/gradient_terms.cuh"

namespace rms_deploy::cuda {

// The scale of a pack whose first element is `begin`.
template <class T>
__device__ __forceinline__ Floats<T> scale_of_pack(const Problem& p, int begin) {
  Floats<T> scale;
  if (p.scalar_scale) {
    const float only = scale_at<T>(p, p.scale, 0);
#pragma unroll
    for (int k = 0; k < kWidth<T>; ++k) {
      scale.each[k] = only;
    }
  } else if (sizeof(T) == 4 || p.scale_type == contract::ElementType::kFloat32) {
#pragma unroll
    for (int k = 0; k < kWidth<T>; k += 4) {
      const Floats<float> part(load_constant_pack(static_cast<const float*>(p.scale) + begin + k));
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        scale.each[k + j] = part.each[j];
      }
    }
  } else {
    scale = Floats<T>(load_constant_pack(static_cast<const T*>(p.scale) + begin));
  }
  return scale;
}

// The same pack, which the compiler takes for another one.
__device__ __forceinline__ void anew([[maybe_unused]] Pack& pack) {
#if defined(__CUDACC__)
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    asm volatile("" : "+r"(pack.words[i]));
  }
#endif
}

// One row of gradient_rows, as one thread has it: packs of x and grad_y, and the shares of grad_scale of its columns.
template <class T>
class GradientRow {
 public:
  static constexpr int kVectors = kGradientVectors;

  __device__ __forceinline__ explicit GradientRow(const Gradient& gradient) : g_(gradient), p_(gradient.norm) {}

  __device__ __forceinline__ void load(int64_t row) {
    offset_ = row * p_.n;
    n_ = row < p_.outer ? static_cast<int>(p_.n) : 0;  // a row that does not exist has no elements
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      x_[i] = has_pack(i) ? load_pack(static_cast<const T*>(p_.x) + at(i)) : Pack{};
      grad_[i] = has_pack(i) ? load_pack(static_cast<const T*>(g_.grad_y) + at(i)) : Pack{};
    }
  }

  // What this thread adds to the sums.
  __device__ __forceinline__ RowSums<float> sums() {
    RowSums<float> sums = {0.0F, 0.0F};
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (has_pack(i)) {
        const Floats<T> scale = scale_of_pack<T>(p_, first(i));
        keep_order();
        anew(x_[i]);  // or the compiler unpacks it before the scale is there
        anew(grad_[i]);
        const Floats<T> x(x_[i]);
        const Floats<T> grad(grad_[i]);
        RowSums<float> pack = {0.0F, 0.0F};  // chains of additions that do not wait for each other
#pragma unroll
        for (int k = 0; k < kWidth<T>; ++k) {
          pack.squares += in_statistic(i, k) ? x.each[k] * x.each[k] : 0.0F;
          pack.dots += grad.each[k] * scale.each[k] * x.each[k];
        }
        sums.squares += pack.squares;
        sums.dots += pack.dots;
      }
    }
    return sums;
  }

  // Writes grad_x, and adds to the shares.
  __device__ __forceinline__ void write(const RowTerms<float>& terms) {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (has_pack(i)) {
        write_pack(i, terms);
      }
    }
  }

  // The same in float64. One element after the other is read again: nothing of the row is held in the meantime.
  __device__ __forceinline__ void write(const RowTerms<double>& terms) {
#pragma unroll 1
    for (int number = 0; number < kVectors * kWidth<T>; ++number) {
      const int column = first(number / kWidth<T>) + number % kWidth<T>;
      if (column < n_) {
        const double grad = static_cast<double>(to_float(static_cast<const T*>(g_.grad_y)[offset_ + column]));
        const double normed = write_element<T>(g_, offset_ + column, column, grad, terms);
        const float share = static_cast<float>(grad * normed);
#pragma unroll
        for (int i = 0; i < kVectors * kWidth<T>; ++i) {  // a register has no number that is known at run time
          shares_[i / kWidth<T>].each[i % kWidth<T>] += i == number ? share : 0.0F;
        }
      }
    }
  }

  __device__ __forceinline__ const Floats<T>& share(int i) const { return shares_[i]; }
  // The first column of the thread's i-th pack, and whether there is one.
  __device__ __forceinline__ int first(int i) const {
    return (i * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * kWidth<T>;
  }
  __device__ __forceinline__ bool has_columns(int i) const { return first(i) < static_cast<int>(p_.n); }

 private:
  __device__ __forceinline__ bool has_pack(int i) const { return first(i) < n_; }
  __device__ __forceinline__ int64_t at(int i) const { return offset_ + first(i); }
  __device__ __forceinline__ bool in_statistic(int i, int k) const {
    return first(i) + k < static_cast<int>(p_.statistics_size);
  }

  __device__ __forceinline__ void write_pack(int i, const RowTerms<float>& terms) {
    const Floats<T> scale = scale_of_pack<T>(p_, first(i));
    keep_order();
    anew(x_[i]);  // or the compiler keeps what the sums have unpacked, in twice the registers
    anew(grad_[i]);
    const Floats<T> x(x_[i]);
    const Floats<T> grad(grad_[i]);
    Floats<T> result;
#pragma unroll
    for (int k = 0; k < kWidth<T>; ++k) {
      const ElementGradient<float> element(x.each[k], grad.each[k] * scale.each[k], terms, in_statistic(i, k));
      shares_[i].each[k] += grad.each[k] * element.normed;
      result.each[k] = element.grad_x;
    }
    if (g_.grad_sum != nullptr) {
      const Floats<T> other(load_pack(static_cast<const T*>(g_.grad_sum) + at(i)));
#pragma unroll
      for (int k = 0; k < kWidth<T>; ++k) {
        result.each[k] += other.each[k];
      }
    }
    if (g_.grad_x != nullptr) {
      store_pack(static_cast<T*>(g_.grad_x) + at(i), result.rounded());
    }
  }

  const Gradient& g_;
  const Problem& p_;
  int64_t offset_ = 0;
  int n_ = 0;
  Pack x_[kVectors];
  Pack grad_[kVectors];
  Floats<T> shares_[kVectors] = {};
};

// Writes the block's share: of one row at a time, a thread's own columns; of several, their sums in the rows' order.
template <class T>
__device__ __forceinline__ void write_share(const GradientRow<T>& row, int64_t n, float* share) {
  if (blockDim.y == 1) {
#pragma unroll
    for (int i = 0; i < GradientRow<T>::kVectors; ++i) {
      if (row.has_columns(i)) {
#pragma unroll
        for (int k = 0; k < kWidth<T>; k += 4) {
          const float* each = row.share(i).each + k;
          store_pack(share + row.first(i) + k,
                     Pack{{bits_of(each[0]), bits_of(each[1]), bits_of(each[2]), bits_of(each[3])}});
        }
      }
    }
    return;
  }
  float* const shares = reinterpret_cast<float*>(shared_packs());  // blockDim.y x n
  const int columns = static_cast<int>(n);
#pragma unroll
  for (int i = 0; i < GradientRow<T>::kVectors; ++i) {
    if (row.has_columns(i)) {
#pragma unroll
      for (int k = 0; k < kWidth<T>; ++k) {
        shares[static_cast<int>(threadIdx.y) * columns + row.first(i) + k] = row.share(i).each[k];
      }
    }
  }
  __syncthreads();
  const int thread = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
  for (int column = thread; column < columns; column += static_cast<int>(blockDim.x * blockDim.y)) {
    float sum = 0.0F;
    for (int y = 0; y < static_cast<int>(blockDim.y); ++y) {
      sum += shares[y * columns + column];
    }
    share[column] = sum;
  }
}

template <class T>
__device__ __forceinline__ void gradient_rows(const GradientArguments& arguments) {
  const Problem& p = arguments.gradient.norm;
  GradientRow<T> row(arguments.gradient);
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
  int turn = 0;
#pragma unroll 1
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.y; first < p.outer; first += step) {
    const int64_t number = first + threadIdx.y;
    row.load(number);
    bool holds;
    const RowTerms<float> terms = terms_of(sum_over_row(row.sums(), turn), p, holds);
    turn ^= 1;
    if (holds) {
      row.write(terms);
    }
    if (__any_sync(kAllLanes, !holds)) {  // the same for all warps of a row
      Divisor divisor;
      const RowTerms<double> wide = wide_terms<T>(arguments.gradient, number, divisor);
      if (!holds) {
        row.write(wide);
      }
    }
  }
  if (arguments.shares != nullptr) {
    write_share(row, p.n, arguments.shares + static_cast<int64_t>(blockIdx.x) * p.n);
  }
}

}  // namespace rms_deploy::cuda
