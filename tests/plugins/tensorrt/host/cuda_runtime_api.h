// What the plugin and TensorRT's headers need of CUDA's header, so that they compile where there is no CUDA toolkit.
#pragma once

typedef struct CUstream_st* cudaStream_t;
typedef struct CUevent_st* cudaEvent_t;
enum cudaError { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorNoDevice = 100 };
typedef enum cudaError cudaError_t;

extern "C" const char* cudaGetErrorString(cudaError_t error);
