// Errors inside the shell are exceptions; `guarded` turns them into an ONNX Runtime status at each callback's edge, so
// that none leaves a callback.
#pragma once

#include <exception>

#include "node.h"
#include "onnxruntime/api.h"

namespace rms_deploy::ort {

// A status that ONNX Runtime itself returned, on its way back to it.
struct ForwardedStatus {
  Status* status;
};

inline void check(Status* status) {
  if (status != nullptr) {
    throw ForwardedStatus{status};
  }
}

template <class Body>
Status* guarded(const Api& api, const Body& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const ForwardedStatus& forwarded) {
    return forwarded.status;
  } catch (const Error& error) {
    return api.CreateStatus(kInvalidArgument, error.what());
  } catch (const std::exception& error) {
    return api.CreateStatus(kFail, error.what());
  }
}

}  // namespace rms_deploy::ort
