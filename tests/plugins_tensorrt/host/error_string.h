// What the plugin needs of CUDA beside what the kernels need, which ../../kernels_cuda/on_cpu has.
#pragma once

#include <cuda_runtime_api.h>

inline const char* cudaGetErrorString(cudaError_t) { return "an error"; }
