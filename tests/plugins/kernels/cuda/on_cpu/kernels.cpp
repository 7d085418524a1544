// The CUDA kernels and their launcher, compiled for the CPU.
#include "kernels/cuda/norm.cu"

cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 size, void** arguments, size_t, cudaStream_t) {
  using rms_deploy::cuda::Arguments;
  static void (*function)(Arguments);
  function = reinterpret_cast<void (*)(Arguments)>(reinterpret_cast<uintptr_t>(kernel));
  const unsigned threads = size.x * size.y * size.z;
  if (threads == 0 || threads > 1024 || threads % cuda_on_cpu::kWarp != 0 || grid.y > 65535 || grid.x == 0) {
    return cudaErrorInvalidConfiguration;
  }
  cuda_on_cpu::kernel_call = [](const void* argument) { function(*static_cast<const Arguments*>(argument)); };
  cuda_on_cpu::kernel_argument = arguments[0];
  cuda_on_cpu::block_size = size;
  cuda_on_cpu::grid_size = grid;
  for (unsigned y = 0; y < grid.y; ++y) {
    for (unsigned x = 0; x < grid.x; ++x) {
      cuda_on_cpu::block_index = dim3(x, y);
      cuda_on_cpu::run_block();
    }
  }
  return cudaSuccess;
}

extern "C" void set_multiprocessors(int count) { cuda_on_cpu::multiprocessors = count; }
extern "C" void set_reverse(int reverse) { cuda_on_cpu::reverse = reverse != 0; }
