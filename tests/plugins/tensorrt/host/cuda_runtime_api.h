// What TensorRT's headers need of CUDA's header, so that they compile where there is no CUDA toolkit.
#pragma once

typedef struct CUstream_st* cudaStream_t;
typedef struct CUevent_st* cudaEvent_t;
