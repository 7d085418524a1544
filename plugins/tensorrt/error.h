// Errors inside the plugin are exceptions; `guarded` writes them to TensorRT's logger at each callback's edge, so that
// none leaves a callback.
#pragma once

#include <cstdint>
#include <exception>

#include "node.h"
#include "tensorrt/log.h"

namespace rms_deploy::trt {

// What `body` returns, or `failure` if it throws.
template <class Result, class Body>
Result guarded(Result failure, const Body& body) noexcept {
  try {
    return body();
  } catch (const std::exception& error) {
    log(Severity::kError, error.what());
    return failure;
  }
}

inline constexpr int32_t kOk = 0;
inline constexpr int32_t kFailed = -1;

}  // namespace rms_deploy::trt
