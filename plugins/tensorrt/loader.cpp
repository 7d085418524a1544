// For hosts that open a plugin library and expect it to register itself, as one that is linked to TensorRT can: ONNX
// Runtime's TensorRT provider, Polygraphy, trtexec --staticPlugins. When it is opened, this library has each TensorRT
// of the process load librms_deploy_tensorrt.so, which lies beside it. The plugin library cannot do this itself:
// IPluginRegistry::loadLibrary opens it too, and refuses a library whose plugins are registered already.
#include <dlfcn.h>
#include <link.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "tensorrt/versions.h"

namespace {

bool starts_with(const char* text, const char* start) { return std::strncmp(text, start, std::strlen(start)) == 0; }

std::vector<std::string> loaded_tensorrts() {
  std::vector<std::string> paths;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        const char* slash = std::strrchr(info->dlpi_name, '/');
        const char* name = slash == nullptr ? info->dlpi_name : slash + 1;
        if (starts_with(name, "libnvinfer.so") || starts_with(name, "libtensorrt_rtx.so")) {
          static_cast<std::vector<std::string>*>(data)->emplace_back(info->dlpi_name);
        }
        return 0;
      },
      &paths);
  return paths;
}

// Has the TensorRT at `path` load `plugins`, and returns whether it could be asked. It logs itself what then goes
// wrong.
bool load_into(const std::string& path, const std::string& plugins) {
  void* library = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) {
    return false;
  }
  const auto version = reinterpret_cast<int32_t (*)()>(dlsym(library, "getInferLibVersion"));
  const auto get_registry = reinterpret_cast<void* (*)()>(dlsym(library, "getPluginRegistry"));
  void* registry = version == nullptr || get_registry == nullptr ? nullptr : get_registry();
  if (registry != nullptr) {
    using LoadLibrary = void* (*)(void* self, const char* path);
    const LoadLibrary* functions = *static_cast<const LoadLibrary* const*>(registry);
    functions[rms_deploy::trt::slot_of_load_library(version())](registry, plugins.c_str());
  }
  dlclose(library);
  return registry != nullptr;
}

__attribute__((constructor)) void load() {
  Dl_info self;
  if (dladdr(reinterpret_cast<void*>(&load), &self) == 0) {
    return;
  }
  const std::string path = self.dli_fname;
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  bool found = false;
  for (const std::string& tensorrt : loaded_tensorrts()) {
    found = load_into(tensorrt, folder + "librms_deploy_tensorrt.so") || found;
  }
  if (!found) {  // there is no logger to say it to
    std::fprintf(stderr, "rms_deploy: %s was opened before TensorRT; open TensorRT's library first\n", path.c_str());
  }
}

}  // namespace
