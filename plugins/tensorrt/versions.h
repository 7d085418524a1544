// What differs between the versions of TensorRT that one library serves.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rms_deploy::trt {

// TensorRT 11 and TensorRT-RTX 1.5 made the loggers versioned interfaces, which moved their functions, and left out
// what TensorRT 10 had deprecated. `version` is getInferLibVersion(): major * 10000 + minor * 100 + patch; TensorRT-RTX
// counts from 1, TensorRT has had V3 plugins since 10.0.
constexpr bool is_like_tensorrt_11(int32_t version) { return version >= (version < 100000 ? 10500 : 110000); }

// Where IPluginRegistry's table of virtual functions has loadLibrary.
constexpr size_t slot_of_load_library(int32_t version) { return is_like_tensorrt_11(version) ? 6 : 10; }

}  // namespace rms_deploy::trt
