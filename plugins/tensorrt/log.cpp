#include "tensorrt/log.h"

#include <dlfcn.h>

#include <mutex>

#include "tensorrt/logger_layouts.h"
#include "tensorrt/versions.h"

namespace rms_deploy::trt {

namespace {

// What we know of the TensorRT that loaded us last. We link to none, and a process may have several.
struct Host {
  void* finder = nullptr;           // its ILoggerFinder
  void* (*get_logger)() = nullptr;  // its global ILogger
  bool versioned = false;           // the layout of both
};

std::mutex mutex;
Host host;

// The library that implements `finder`, found by the address of the finder's virtual functions.
Host host_of(void* finder) noexcept {
  Host found;
  Dl_info info;
  if (finder == nullptr || dladdr(*static_cast<void**>(finder), &info) == 0) {
    return found;
  }
  void* library = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) {
    return found;
  }
  const auto version = reinterpret_cast<int32_t (*)()>(dlsym(library, "getInferLibVersion"));
  if (version != nullptr) {  // else the layout is unknown: no logger
    found.finder = finder;
    found.get_logger = reinterpret_cast<void* (*)()>(dlsym(library, "getLogger"));
    found.versioned = is_like_tensorrt_11(version());
  }
  dlclose(library);  // undoes the dlopen above; TensorRT stays loaded
  return found;
}

// The finder knows the logger of the builder, engine or context that called us; elsewhere there is the global one.
template <class Layout>
void log_through(const Host& to, Severity severity, const char* message) {
  auto* logger = static_cast<typename Layout::ILoggerFinder*>(to.finder)->findLogger();
  if (logger == nullptr && to.get_logger != nullptr) {
    logger = static_cast<typename Layout::ILogger*>(to.get_logger());
  }
  if (logger != nullptr) {
    logger->log(static_cast<int32_t>(severity), message);
  }
}

}  // namespace

void set_logger_finder(void* finder) noexcept {
  const Host found = host_of(finder);
  const std::lock_guard<std::mutex> lock(mutex);
  host = found;
}

void log(Severity severity, const char* message) noexcept {
  try {
    std::unique_lock<std::mutex> lock(mutex);
    const Host to = host;
    lock.unlock();
    if (to.finder != nullptr) {
      to.versioned ? log_through<VersionedLayout>(to, severity, message)
                   : log_through<PlainLayout>(to, severity, message);
    }
  } catch (...) {  // findLogger is not declared noexcept
  }
}

}  // namespace rms_deploy::trt
