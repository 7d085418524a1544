// TensorRT's logger interfaces in the two layouts that they have had. One library serves both, so these are our own
// declarations even where the build has official headers; tests/plugins/tensorrt/test_api.py compares them.
#pragma once

#include "tensorrt/api.h"

namespace rms_deploy::trt {

// TensorRT 10, and TensorRT-RTX up to 1.4.
struct PlainLayout {
  class ILogger {
   public:
    virtual void log(int32_t severity, const char* message) noexcept = 0;
    virtual ~ILogger() = default;
  };

  class ILoggerFinder {
   public:
    virtual ILogger* findLogger() = 0;
    virtual ~ILoggerFinder() = default;
  };
};

// TensorRT 11, and TensorRT-RTX from 1.5.
struct VersionedLayout {
  class ILogger : public nvinfer1::IVersionedInterface {
   public:
    virtual void log(int32_t severity, const char* message) noexcept = 0;
  };

  class ILoggerFinder : public nvinfer1::IVersionedInterface {
   public:
    virtual ILogger* findLogger() = 0;
  };
};

}  // namespace rms_deploy::trt
