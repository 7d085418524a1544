#include "kernels/cuda/norm.h"

#include "kernels/rounding.h"

namespace rms_deploy::cuda {

namespace {

constexpr int kThreads = 256;

__device__ float load_scale(const Problem& p, int64_t k) {
  const int64_t i = p.scalar_scale ? 0 : k;
  switch (p.scale_type) {
    case contract::ElementType::kFloat32:
      return static_cast<const float*>(p.scale)[i];
    case contract::ElementType::kFloat16:
      return to_float(static_cast<const Float16*>(p.scale)[i]);
    case contract::ElementType::kBFloat16:
      return to_float(static_cast<const BFloat16*>(p.scale)[i]);
  }
  return 0.0F;
}

// One block per row or column, in two passes.
template <class T>
__global__ void __launch_bounds__(kThreads) norm(Problem p) {
  __shared__ double partial[kThreads];
  const T* x = static_cast<const T*>(p.x);
  const T* residual = static_cast<const T*>(p.residual);
  T* sum = static_cast<T*>(p.sum == nullptr ? p.y : p.sum);
  const int64_t block = blockIdx.x;
  const int64_t start = block / p.inner * p.n * p.inner + block % p.inner;
  if (residual != nullptr) {
    for (int64_t k = threadIdx.x; k < p.n; k += kThreads) {
      const int64_t i = start + k * p.inner;
      sum[i] = from_float<T>(to_float(x[i]) + to_float(residual[i]));
    }
    x = sum;
  }
  double squares = 0.0;
  for (int64_t k = threadIdx.x; k < p.statistics_size; k += kThreads) {
    const double v = static_cast<double>(to_float(x[start + k * p.inner]));
    squares += v * v;
  }
  partial[threadIdx.x] = squares;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) {
      partial[threadIdx.x] += partial[threadIdx.x + half];
    }
  }
  __syncthreads();
  const double mean = partial[0] / static_cast<double>(p.statistics_size);
  const double root = sqrt(mean + static_cast<double>(p.epsilon)) + static_cast<double>(p.rms_epsilon);
  const double rms = root < static_cast<double>(p.rms_min) ? static_cast<double>(p.rms_min) : root;
  for (int64_t k = threadIdx.x; k < p.n; k += kThreads) {
    const int64_t i = start + k * p.inner;
    float quotient = static_cast<float>(static_cast<double>(to_float(x[i])) / rms);
    float scale = load_scale(p, k);
    if (p.round_before_scale) {
      quotient = to_float(from_float<T>(quotient));
      scale = to_float(from_float<T>(scale));
    }
    static_cast<T*>(p.y)[i] = from_float<T>(quotient * scale);
  }
}

using Kernel = void (*)(Problem);

Kernel kernel_for(contract::ElementType type) {
  switch (type) {
    case contract::ElementType::kFloat32:
      return norm<float>;
    case contract::ElementType::kFloat16:
      return norm<Float16>;
    case contract::ElementType::kBFloat16:
      return norm<BFloat16>;
  }
  return nullptr;
}

}  // namespace

int32_t tactics(const Problem&, Tactic (&)[kMaxTactics]) { return 0; }

cudaError_t prepare() {
  for (const auto type :
       {contract::ElementType::kFloat32, contract::ElementType::kFloat16, contract::ElementType::kBFloat16}) {
    cudaFuncAttributes attributes;
    if (const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel_for(type)); error != cudaSuccess) {
      return error;
    }
  }
  return cudaSuccess;
}

cudaError_t launch(const Problem& problem, Tactic, cudaStream_t stream) {
  const Kernel kernel = kernel_for(problem.type);
  if (problem.outer * problem.n * problem.inner == 0) {
    return cudaSuccess;
  }
  Problem argument = problem;
  void* arguments[] = {&argument};
  return cudaLaunchKernel(reinterpret_cast<const void*>(kernel),
                          dim3(static_cast<unsigned>(problem.outer * problem.inner)), dim3(kThreads), arguments, 0,
                          stream);
}

}  // namespace rms_deploy::cuda
