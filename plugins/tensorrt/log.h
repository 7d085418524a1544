// Messages through the logger of the TensorRT that loaded us.
#pragma once

#include <cstdint>

namespace rms_deploy::trt {

enum class Severity : int32_t { kError = 1, kWarning = 2 };  // as nvinfer1::ILogger::Severity

// Takes the ILoggerFinder that TensorRT hands over when it loads the library; null: none.
void set_logger_finder(void* finder) noexcept;

// Writes nothing where TensorRT gave no logger.
void log(Severity severity, const char* message) noexcept;

}  // namespace rms_deploy::trt
