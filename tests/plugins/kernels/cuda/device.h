// Memory, streams and graphs of the driver that driver.cpp opens: what the tests need beside the kernels.
#pragma once

#include <dlfcn.h>

#include <cstddef>

#if !defined(RMS_DEPLOY_LIBCUDA)
#define RMS_DEPLOY_LIBCUDA "libcuda.so.1"
#endif

struct CUstream_st;

namespace device {

// A function of the driver; it returns a CUresult. -1: there is no driver.
template <class... Arguments>
int call(const char* name, Arguments... arguments) {
  static void* const library = dlopen(RMS_DEPLOY_LIBCUDA, RTLD_NOW | RTLD_LOCAL);
  return library == nullptr ? -1 : reinterpret_cast<int (*)(Arguments...)>(dlsym(library, name))(arguments...);
}

inline int allocate(void** pointer, size_t bytes) { return call("cuMemAlloc_v2", pointer, bytes); }
inline int release(void* pointer) { return call("cuMemFree_v2", pointer); }
inline int upload(void* to, const void* from, size_t bytes) { return call("cuMemcpyHtoD_v2", to, from, bytes); }
inline int download(void* to, const void* from, size_t bytes) { return call("cuMemcpyDtoH_v2", to, from, bytes); }
inline int synchronize() { return call("cuCtxSynchronize"); }

// Captures what `enqueue` puts on a stream, in the strictest mode, and launches it as a graph.
template <class Enqueue>
int captured(const Enqueue& enqueue) {
  constexpr unsigned kNonBlocking = 1;
  constexpr int kGlobal = 0;
  CUstream_st* stream = nullptr;
  void* graph = nullptr;
  void* executable = nullptr;
  int error = call("cuStreamCreate", &stream, kNonBlocking);
  error = error != 0 ? error : call("cuStreamBeginCapture_v2", stream, kGlobal);
  if (error != 0) {
    return error;
  }
  error = enqueue(stream);
  const int ended = call("cuStreamEndCapture", stream, &graph);
  error = error != 0 ? error : ended;
  error = error != 0 ? error : call("cuGraphInstantiateWithFlags", &executable, graph, 0ULL);
  return error != 0 ? error : call("cuGraphLaunch", executable, stream);
}

}  // namespace device
