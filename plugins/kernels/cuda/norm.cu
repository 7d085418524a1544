// The kernels, under the names by which library.cpp finds them in the compiled image.
#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/gated_rows.cuh"
#include "kernels/cuda/general_rows.cuh"
#include "kernels/cuda/rows.cuh"

namespace rms_deploy::cuda {

// From compute capability 9.0 on the host may let a kernel start while the one before it still runs. The kernel then
// waits here until that one has ended and its memory can be read, and lets the next one start. After any other launch
// both do nothing.
__device__ __forceinline__ void take_turn() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

#define RMS_DEPLOY_KERNEL(name, body, ...)                                                                      \
  extern "C" __global__ void __launch_bounds__(__VA_ARGS__) name(const __grid_constant__ Arguments arguments) { \
    take_turn();                                                                                                \
    body(arguments);                                                                                            \
  }

// The kernels of one element type. What else distinguishes two problems (residual, type of scale, rounding order,
// partial statistic, place of the gate, number of threads) is a branch that all threads take alike: each instantiation
// costs every build seconds. norm_columns is named after the bytes of an access: with 16, two blocks per multiprocessor
// have 64 KB under way, and leave a thread 128 registers. norm_general_any_rows may take as many: without its 1, ptxas
// spills for compute capability 7.5 instead.
#define RMS_DEPLOY_KERNELS_OF(type, T)                                                                   \
  RMS_DEPLOY_KERNEL(norm_rows_1_##type, (norm_rows<T, 1>), kMaxThreads<1>, 1)                            \
  RMS_DEPLOY_KERNEL(norm_rows_2_##type, (norm_rows<T, 2>), kMaxThreads<2>, 1)                            \
  RMS_DEPLOY_KERNEL(norm_rows_4_##type, (norm_rows<T, 4>), kMaxThreads<4>, 1)                            \
  RMS_DEPLOY_KERNEL(norm_rows_8_##type, (norm_rows<T, 8>), kMaxThreads<8>, 1)                            \
  RMS_DEPLOY_KERNEL(norm_shared_rows_##type, norm_shared_rows<T>, kSharedRowThreads)                     \
  RMS_DEPLOY_KERNEL(norm_any_rows_##type, norm_any_rows<T>, kAnyRowThreads)                              \
  RMS_DEPLOY_KERNEL(norm_gated_rows_##type, (norm_gated_rows<T, true>), kAnyRowThreads, 2)               \
  RMS_DEPLOY_KERNEL(norm_gated_any_rows_##type, (norm_gated_rows<T, false>), kAnyRowThreads)             \
  RMS_DEPLOY_KERNEL(norm_general_rows_##type, (norm_general_rows<T, true>), kAnyRowThreads, 2)           \
  RMS_DEPLOY_KERNEL(norm_general_any_rows_##type, (norm_general_rows<T, false>), kAnyRowThreads, 1)      \
  RMS_DEPLOY_KERNEL(norm_columns_16_##type, (norm_columns<T, 16 / sizeof(T)>), kMaxColumnThreads<16>, 2) \
  RMS_DEPLOY_KERNEL(norm_columns_8_##type, (norm_columns<T, 8 / sizeof(T)>), kMaxColumnThreads<8>, 1)    \
  RMS_DEPLOY_KERNEL(norm_columns_4_##type, (norm_columns<T, 4 / sizeof(T)>), kMaxColumnThreads<4>, 1)

#define RMS_DEPLOY_KERNELS_OF_16_BITS(type, T) \
  RMS_DEPLOY_KERNELS_OF(type, T)               \
  RMS_DEPLOY_KERNEL(norm_columns_2_##type, (norm_columns<T, 1>), kMaxColumnThreads<2>, 1)

RMS_DEPLOY_KERNELS_OF(float32, float)
RMS_DEPLOY_KERNELS_OF_16_BITS(float16, Float16)
RMS_DEPLOY_KERNELS_OF_16_BITS(bfloat16, BFloat16)

}  // namespace rms_deploy::cuda
