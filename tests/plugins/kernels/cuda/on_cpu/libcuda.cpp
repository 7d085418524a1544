// A stand-in for NVIDIA's driver: the functions of libcuda that the libraries and their tests use. A launch is written
// down, and runs the kernel compiled for the CPU.
//
// It is as strict as the driver is: contexts, streams and kernels belong together, nothing loads code while a stream
// captures, no process uses what its parent initialised, and code of a newer ABI or PTX version is refused.
#include <dlfcn.h>
#include <unistd.h>

#include <array>
#include <list>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "cuda_language.h"
#include "fatbin.h"
#include "kernels/cuda/driver.h"
#include "kernels/cuda/gradient.cu"
#include "kernels/cuda/norm.cu"
#include "launches.h"

using rms_deploy::cuda::Arguments;
using rms_deploy::cuda::GradientArguments;

#define CUDA extern "C" __attribute__((visibility("default"))) int

enum {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kNotInitialized = 3,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kInvalidContext = 201,
  kInvalidHandle = 400,
  kNotFound = 500,
  kCaptureUnsupported = 900
};

struct CUctx_st {
  int id, device;
};
struct CUstream_st {
  CUctx_st* context;
  bool captures;
};
struct CUlib_st {
  std::vector<fatbin::Code> codes;  // empty: any code
};
// A CUkernel, or a CUfunction where it has a context.
struct Function {
  CUlib_st* library;
  std::string name;
  void* code;
  CUctx_st* context;

  bool is_gradient() const { return name.rfind("gradient_", 0) == 0; }
  size_t argument_bytes() const { return is_gradient() ? sizeof(GradientArguments) : sizeof(Arguments); }
};

namespace {

struct Recorded {
  Function* kernel;
  CUctx_st* context;
  dim3 grid, block;
  unsigned shared_bytes;
  bool early;
  std::vector<unsigned char> argument;
};

template <class Argument>
void call(void* code, const void* argument) {
  reinterpret_cast<void (*)(Argument)>(code)(*static_cast<const Argument*>(argument));
}

// Runs a launch in place of the kernel compiled for the CPU.
using Runner = void (*)(const char* kernel, unsigned grid_x, unsigned grid_y, unsigned block_x, unsigned block_y,
                        unsigned shared_bytes, const void* arguments, size_t argument_bytes);

std::mutex mutex;
int version = 13000;
int multiprocessors = 4;  // 0: CUDA does not work
std::vector<int> gpus = {90};
int process = 0;  // that called cuInit
thread_local CUctx_st* current = nullptr;
std::list<CUctx_st> contexts;
std::map<int, CUctx_st*> primaries;
std::list<CUstream_st> streams;
std::list<CUlib_st> libraries;
std::list<Function> functions;
std::set<std::tuple<CUctx_st*, CUlib_st*, std::string>> loaded;
std::vector<Launch> launches;
std::list<std::vector<Recorded>> graphs;
Runner runner = nullptr;
std::map<std::tuple<CUlib_st*, std::string, int>, unsigned> allowed;  // bytes of dynamic shared memory

// The environment says which driver this is; a test in the same process may say it afterwards.
[[maybe_unused]] const bool configured = [] {
  if (const char* text = std::getenv("STAND_IN_CUDA")) {
    version = std::atoi(text);
  }
  if (const char* text = std::getenv("STAND_IN_GPUS")) {
    gpus.clear();
    std::istringstream list(text);
    for (std::string gpu; std::getline(list, gpu, ',');) {
      gpus.push_back(std::atoi(gpu.c_str()));
    }
  }
  return true;
}();

int state() {
  if (process == 0 || process != getpid()) {
    return kNotInitialized;
  }
  return multiprocessors > 0 ? kSuccess : kInvalidValue;
}

bool captures() {
  for (const CUstream_st& stream : streams) {
    if (stream.captures) {
      return true;
    }
  }
  return false;
}

// Bytes of shared memory that a block can ask for.
int most_shared(int gpu) {
  const int kilobytes = gpu < 80 ? 64 : gpu == 80 || gpu == 87 ? 163 : gpu == 86 || gpu == 89 || gpu >= 120 ? 99 : 227;
  return kilobytes * 1024;
}

unsigned allowed_shared(const Function& kernel, int device) {
  const auto found = allowed.find({kernel.library, kernel.name, device});
  return found == allowed.end() ? 48 * 1024 : found->second;
}

CUctx_st* new_context(int device) {
  contexts.push_back({static_cast<int>(contexts.size()) + 1, device});
  return &contexts.back();
}

// A kernel is loaded into a context when it is first needed there.
int load(Function& kernel, CUctx_st* context) {
  if (loaded.count({context, kernel.library, kernel.name}) != 0) {
    return kSuccess;
  }
  if (captures()) {
    return kCaptureUnsupported;
  }
  if (!kernel.library->codes.empty()) {
    const fatbin::Code* code = nullptr;
    if (const int error = fatbin::choose(kernel.library->codes, gpus[context->device], version, code)) {
      return error;
    }
    if (code->is_ptx) {
      const size_t at = code->bytes.find(".entry " + kernel.name + "(");
      const std::string size = "[" + std::to_string(kernel.argument_bytes()) + "]";
      if (at == std::string::npos || code->bytes.compare(code->bytes.find('[', at), size.size(), size) != 0) {
        return kInvalidHandle;  // the host and the kernel do not agree on the size of the argument
      }
    } else if (code->bytes.find(".text." + kernel.name) == std::string::npos) {
      return kNotFound;
    }
  }
  loaded.insert({context, kernel.library, kernel.name});
  return kSuccess;
}

void run(const Recorded& launch) {
  if (runner != nullptr) {
    runner(launch.kernel->name.c_str(), launch.grid.x, launch.grid.y, launch.block.x, launch.block.y,
           launch.shared_bytes, launch.argument.data(), launch.argument.size());
    return;
  }
  static const Function* kernel;
  kernel = launch.kernel;
  cuda_on_cpu::kernel_call = [](const void* argument) {
    kernel->is_gradient() ? call<GradientArguments>(kernel->code, argument) : call<Arguments>(kernel->code, argument);
  };
  cuda_on_cpu::kernel_argument = launch.argument.data();
  cuda_on_cpu::block_size = launch.block;
  cuda_on_cpu::grid_size = launch.grid;
  cuda_on_cpu::dynamic_shared.resize(launch.shared_bytes / sizeof(uint64_t) + 2);
  for (unsigned y = 0; y < launch.grid.y; ++y) {
    for (unsigned x = 0; x < launch.grid.x; ++x) {
      cuda_on_cpu::block_index = dim3(x, y);
      cuda_on_cpu::run_block();
    }
  }
}

Launch written_down(const Recorded& recorded, bool captured) {
  Launch launch{};
  std::snprintf(launch.kernel, sizeof launch.kernel, "%s", recorded.kernel->name.c_str());
  const fatbin::Code* code = nullptr;
  if (!recorded.kernel->library->codes.empty()) {
    fatbin::choose(recorded.kernel->library->codes, gpus[recorded.context->device], version, code);
    std::snprintf(launch.code, sizeof launch.code, "%s_%d", code->is_ptx ? "compute" : "sm", code->gpu);
  }
  launch.context = recorded.context->id;
  launch.device = recorded.context->device;
  launch.captured = captured;
  launch.early = recorded.early;
  return launch;
}

}  // namespace

// For tests.

extern "C" __attribute__((visibility("default"))) void set_multiprocessors(int count) { multiprocessors = count; }

extern "C" __attribute__((visibility("default"))) void set_gpu(int gpu) { gpus = {gpu}; }

extern "C" __attribute__((visibility("default"))) void set_reverse(int reverse) { cuda_on_cpu::reverse = reverse != 0; }

// Null: none.
extern "C" __attribute__((visibility("default"))) void set_runner(Runner to) { runner = to; }

extern "C" __attribute__((visibility("default"))) int take_launches(Launch* to, int most) {
  int count = 0;
  for (; count < most && count < static_cast<int>(launches.size()); ++count) {
    to[count] = launches[static_cast<size_t>(count)];
  }
  launches.clear();
  return count;
}

// The driver.

CUDA cuInit(unsigned) {
  if (process != 0 && process != getpid()) {
    return kNotInitialized;
  }
  if (gpus.empty()) {
    return kNoDevice;
  }
  process = getpid();
  return kSuccess;
}

CUDA cuDriverGetVersion(int* to) { return *to = version, kSuccess; }

CUDA cuGetErrorString(int error, const char** text) {
  static const std::map<int, const char*> texts = {
      {kSuccess, "no error"},
      {kInvalidValue, "invalid argument"},
      {kNotInitialized, "initialization error"},
      {kNoDevice, "no CUDA-capable device is detected"},
      {fatbin::kInvalidImage, "device kernel image is invalid"},
      {kInvalidContext, "invalid device context"},
      {fatbin::kNoBinaryForGpu, "no kernel image is available for execution on the device"},
      {fatbin::kUnsupportedPtx, "the provided PTX was compiled with an unsupported toolchain."},
      {kInvalidHandle, "invalid resource handle"},
      {kCaptureUnsupported, "operation not permitted when stream is capturing"},
  };
  const auto found = texts.find(error);
  *text = found == texts.end() ? nullptr : found->second;
  return found == texts.end() ? kInvalidValue : kSuccess;
}

CUDA cuDeviceGetCount(int* count) { return *count = static_cast<int>(gpus.size()), state(); }

CUDA cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return state() != kSuccess ? state() : ordinal < static_cast<int>(gpus.size()) ? kSuccess : kInvalidDevice;
}

CUDA cuDeviceGetName(char* name, int bytes, int device) {
  std::snprintf(name, static_cast<size_t>(bytes), "Stand-in %d", device);
  return state();
}

CUDA cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = size_t{16} << 30, state(); }

CUDA cuDeviceGetAttribute(int* value, int attribute, int device) {
  const int gpu = gpus[static_cast<size_t>(device)];
  const std::map<int, int> values = {{16, multiprocessors}, {75, gpu / 10}, {76, gpu % 10}, {97, most_shared(gpu)}};
  *value = values.at(attribute);
  return state();
}

CUDA cuCtxGetCurrent(CUctx_st** context) {
  *context = current;
  return state() == kNotInitialized ? kNotInitialized : kSuccess;
}

CUDA cuCtxSetCurrent(CUctx_st* context) { return current = context, state(); }

CUDA cuCtxGetDevice(int* device) {
  if (current == nullptr) {
    return kInvalidContext;
  }
  *device = current->device;
  return state();
}

CUDA cuCtxCreate_v2(CUctx_st** context, unsigned, int device) {
  const std::lock_guard<std::mutex> lock(mutex);
  *context = current = new_context(device);
  return state();
}

CUDA cuCtxSynchronize() { return state(); }

CUDA cuDevicePrimaryCtxRetain(CUctx_st** context, int device) {
  const std::lock_guard<std::mutex> lock(mutex);
  CUctx_st*& primary = primaries[device];
  *context = primary = primary == nullptr ? new_context(device) : primary;
  return state();
}

CUDA cuMemAlloc_v2(void** pointer, size_t bytes) {
  if (captures()) {
    return kCaptureUnsupported;
  }
  *pointer = std::aligned_alloc(256, (bytes + 255) / 256 * 256 + 256);
  return *pointer == nullptr ? kOutOfMemory : kSuccess;
}

CUDA cuMemFree_v2(void* pointer) { return std::free(pointer), kSuccess; }

CUDA cuMemcpyHtoD_v2(void* to, const void* from, size_t bytes) { return std::memcpy(to, from, bytes), kSuccess; }

CUDA cuMemcpyDtoH_v2(void* to, const void* from, size_t bytes) { return std::memcpy(to, from, bytes), kSuccess; }

CUDA cuLibraryLoadData(CUlib_st** library, const void* image, int*, void**, unsigned, int*, void**, unsigned) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (state() != kSuccess || captures()) {
    return state() != kSuccess ? state() : kCaptureUnsupported;
  }
  CUlib_st made;
  uint32_t magic;
  std::memcpy(&magic, image, sizeof magic);
  if (magic == fatbin::kMagic) {
    made.codes = fatbin::codes_of(image);
  } else if (std::memcmp(image, "any", 3) != 0) {  // that of kernels which no CUDA compiler has seen
    return fatbin::kInvalidImage;
  }
  libraries.push_back(made);
  *library = &libraries.back();
  return kSuccess;
}

CUDA cuKernelSetAttribute(int attribute, int value, Function* kernel, int device) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (attribute != 8 || value > most_shared(gpus[static_cast<size_t>(device)])) {
    return kInvalidValue;
  }
  return allowed[{kernel->library, kernel->name, device}] = static_cast<unsigned>(value), state();
}

CUDA cuLibraryUnload(CUlib_st*) { return state(); }

CUDA cuLibraryGetKernel(Function** kernel, CUlib_st* library, const char* name) {
  const std::lock_guard<std::mutex> lock(mutex);
  Dl_info self;
  dladdr(reinterpret_cast<void*>(&cuInit), &self);
  void* code = dlsym(dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD), name);
  if (code == nullptr) {
    return kNotFound;
  }
  functions.push_back({library, name, code, nullptr});
  *kernel = &functions.back();
  return state();
}

CUDA cuKernelGetFunction(Function** function, Function* kernel) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (state() != kSuccess || current == nullptr) {
    return state() != kSuccess ? state() : kInvalidContext;
  }
  functions.push_back(*kernel);
  functions.back().context = current;
  *function = &functions.back();
  return kSuccess;
}

CUDA cuFuncGetAttribute(int* value, int, Function* function) {
  const std::lock_guard<std::mutex> lock(mutex);
  *value = 1024;
  return state() != kSuccess ? state() : load(*function, function->context);
}

CUDA cuKernelGetAttribute(int* value, int attribute, Function* kernel, int device) {
  const std::lock_guard<std::mutex> lock(mutex);
  const fatbin::Code* code = nullptr;
  if (state() == kSuccess && attribute == 5 && !kernel->library->codes.empty()) {
    const int error = fatbin::choose(kernel->library->codes, gpus[static_cast<size_t>(device)], version, code);
    return *value = code == nullptr ? 0 : fatbin::virtual_gpu(*code), error;
  }
  return *value = gpus[static_cast<size_t>(device)], attribute == 5 ? state() : kInvalidValue;
}

CUDA cuLaunchKernelEx(const rms_deploy::cuda::LaunchConfig* config, Function* function, void** arguments, void**) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (state() != kSuccess) {
    return state();
  }
  CUstream_st* stream = config->stream;
  CUctx_st* context = stream == nullptr ? current : stream->context;
  if (context == nullptr) {
    return kInvalidContext;
  }
  const unsigned threads = config->block_x * config->block_y * config->block_z;
  if (threads == 0 || threads > 1024 || threads % cuda_on_cpu::kWarp != 0 || config->grid_x == 0 ||
      config->grid_x > 0x7fffffff || config->grid_y == 0 || config->grid_y > 65535 || config->grid_z != 1 ||
      config->shared_bytes > allowed_shared(*function, context->device)) {
    return kInvalidValue;
  }
  if (function->context != nullptr && function->context != context) {
    return kInvalidHandle;
  }
  if (const int error = load(*function, context)) {
    return error;
  }
  const rms_deploy::cuda::LaunchAttribute* attribute = config->attributes;
  if (config->attribute_count > 1 || (config->attribute_count == 1 && attribute->id != 6)) {
    return kInvalidValue;
  }
  const unsigned char* argument = static_cast<const unsigned char*>(arguments[0]);
  const Recorded recorded{function,
                          context,
                          dim3(config->grid_x, config->grid_y),
                          dim3(config->block_x, config->block_y, config->block_z),
                          config->shared_bytes,
                          config->attribute_count == 1 && attribute->value != 0,
                          {argument, argument + function->argument_bytes()}};
  const bool captured = stream != nullptr && stream->captures;
  launches.push_back(written_down(recorded, captured));
  if (captured) {
    graphs.back().push_back(recorded);
  } else {
    run(recorded);
  }
  return kSuccess;
}

CUDA cuStreamCreate(CUstream_st** stream, unsigned) {
  if (current == nullptr) {
    return kInvalidContext;
  }
  streams.push_back({current, false});
  return *stream = &streams.back(), state();
}

CUDA cuStreamBeginCapture_v2(CUstream_st* stream, int) {
  graphs.emplace_back();
  return stream->captures = true, state();
}

CUDA cuStreamEndCapture(CUstream_st* stream, std::vector<Recorded>** graph) {
  *graph = &graphs.back();
  return stream->captures = false, state();
}

CUDA cuGraphInstantiateWithFlags(std::vector<Recorded>** executable, std::vector<Recorded>* graph, unsigned long long) {
  return *executable = graph, state();
}

CUDA cuGraphLaunch(std::vector<Recorded>* executable, CUstream_st*) {
  for (const Recorded& recorded : *executable) {
    run(recorded);
  }
  return state();
}
