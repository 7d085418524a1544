// The logger side of a TensorRT: what the plugin looks for in the library that its finder belongs to. Compiled once for
// each layout of the loggers.
#include <string>

#include "tensorrt/logger_layouts.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using Layout = rms_deploy::trt::FAKE_LAYOUT;

std::string found_text;
std::string global_text;

struct Logger final : Layout::ILogger {
  explicit Logger(std::string& text) : text_(text) {}
  void log(int32_t severity, const char* message) noexcept override {
    text_ += std::to_string(severity) + " " + message + "\n";
  }
#if FAKE_VERSIONED
  nvinfer1::InterfaceInfo getInterfaceInfo() const noexcept override { return {"ILogger", 1, 0}; }
#endif
  std::string& text_;
};

Logger found(found_text);
Logger global(global_text);

struct Finder final : Layout::ILoggerFinder {
  Layout::ILogger* findLogger() override { return in_a_build ? &found : nullptr; }
#if FAKE_VERSIONED
  nvinfer1::InterfaceInfo getInterfaceInfo() const noexcept override { return {"ILoggerFinder", 1, 0}; }
#endif
  bool in_a_build = false;
} finder;

}  // namespace

EXPORT int32_t getInferLibVersion() { return FAKE_VERSION; }
EXPORT void* getLogger() { return static_cast<Layout::ILogger*>(&global); }
EXPORT void* fake_finder() { return static_cast<Layout::ILoggerFinder*>(&finder); }
EXPORT void fake_build(bool in_a_build) { finder.in_a_build = in_a_build; }
EXPORT const char* fake_found_text() { return found_text.c_str(); }
EXPORT const char* fake_global_text() { return global_text.c_str(); }
