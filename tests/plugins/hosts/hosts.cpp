// TensorRT and ONNX Runtime in one process: the compiled libraries, driven as both hosts drive them, on the driver that
// the system finds. Arguments: the two libraries, and what to do.
//
//   launch   two contexts on each GPU; in each, a norm of both libraries: on a stream, and captured into a graph
//   current  a norm of each on the stream 0, in a thread that has no context yet
//   fork     the same in a child, before and after the parent has used CUDA
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <thread>

#include "../kernels/cuda/device.h"
#include "../kernels/cuda/on_cpu/launches.h"
#include "onnxruntime_host.h"
#include "tensorrt/api.h"

namespace {

namespace ort = rms_deploy::ort;
constexpr int64_t kRows = 3, kLength = 64;

// One tensor of each kind, in the current context.
struct Tensors {
  Tensors() {
    device::allocate(&x, kRows * kLength * 4);
    device::allocate(&scale, kLength * 4);
    device::allocate(&y, kRows * kLength * 4);
    std::vector<float> values(kRows * kLength);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(i % 7) - 2.5F;
    }
    device::upload(x, values.data(), values.size() * 4);
    device::upload(scale, std::vector<float>(kLength, 2.0F).data(), kLength * 4);
  }

  // Whether y is the norm of x; forgets y.
  bool is_normed() {
    std::vector<float> in(kRows * kLength), out(in.size());
    device::synchronize();
    device::download(in.data(), x, in.size() * 4);
    device::download(out.data(), y, out.size() * 4);
    device::upload(y, std::vector<float>(out.size()).data(), out.size() * 4);
    for (size_t row = 0; row < kRows; ++row) {
      double squares = 0;
      for (size_t i = row * kLength; i < (row + 1) * kLength; ++i) {
        squares += static_cast<double>(in[i]) * static_cast<double>(in[i]);
      }
      for (size_t i = row * kLength; i < (row + 1) * kLength; ++i) {
        const double expected = 2 * static_cast<double>(in[i]) / std::sqrt(squares / kLength + 1e-6);
        // Four roundings of half an ulp: the mean square, whose error its root halves, the root, the quotient, the
        // product.
        if (!(std::abs(static_cast<double>(out[i]) - expected) <= 4 * 0x1p-24 * std::abs(expected))) {
          return false;
        }
      }
    }
    return true;
  }

  void *x = nullptr, *scale = nullptr, *y = nullptr;
};

// An engine's layer, deserialised and attached to a context.
class TensorRt {
 public:
  explicit TensorRt(const char* path) {
    int32_t count = 0;
    using GetCreators = nvinfer1::IPluginCreatorInterface* const* (*)(int32_t&);
    auto creators = reinterpret_cast<GetCreators>(dlsym(dlopen(path, RTLD_NOW | RTLD_LOCAL), "getCreators"))(count);
    const nvinfer1::PluginFieldCollection none{};
    plugin_.reset(static_cast<nvinfer1::IPluginCreatorV3One*>(creators[0])
                      ->createPlugin("norm", &none, nvinfer1::TensorRTPhase::kRUNTIME));
  }

  void attach() {
    attached_.reset(runtime(*plugin_).attachToContext(nullptr));
    runtime(*attached_).onShapeChange(in_, 2, in_, 1);
  }

  int enqueue(const Tensors& tensors, void* stream) {
    const void* inputs[] = {tensors.x, tensors.scale};
    void* outputs[] = {tensors.y};
    return runtime(*attached_).enqueue(in_, in_, inputs, outputs, nullptr, static_cast<cudaStream_t>(stream));
  }

 private:
  static nvinfer1::IPluginV3OneRuntime& runtime(nvinfer1::IPluginV3& plugin) {
    return *static_cast<nvinfer1::IPluginV3OneRuntime*>(
        plugin.getCapabilityInterface(nvinfer1::PluginCapabilityType::kRUNTIME));
  }

  const nvinfer1::PluginTensorDesc in_[2] = {
      {{2, {kRows, kLength}}, nvinfer1::DataType::kFLOAT, nvinfer1::TensorFormat::kLINEAR, 0},
      {{1, {kLength}}, nvinfer1::DataType::kFLOAT, nvinfer1::TensorFormat::kLINEAR, 0}};
  std::unique_ptr<nvinfer1::IPluginV3> plugin_, attached_;
};

// A session's node.
class OnnxRuntime {
 public:
  explicit OnnxRuntime(const char* path) : op_(ort::host::cuda_op(path)) {}

  // What the session says; empty: it is made.
  std::string create() { return ort::host::taken(op_.CreateKernelV2(&op_, nullptr, nullptr, &kernel_)); }

  std::string compute(const Tensors& tensors, void* stream) {
    const ort::Value x{tensors.x, {kRows, kLength}}, scale{tensors.scale, {kLength}};
    ort::Value y{tensors.y, {kRows, kLength}};
    ort::KernelContext context{{&x, &scale}, &y, stream};
    return ort::host::taken(op_.KernelComputeV2(kernel_, &context));
  }

 private:
  const ort::CustomOp& op_;
  void* kernel_ = nullptr;
};

void say(const char* what, bool normed) { std::printf("%s: %s\n", what, normed ? "normed" : "WRONG"); }

void print_launches() {
  Launch launches[64];
  const int count = device::call("take_launches", &launches[0], 64);
  for (const Launch* launch = launches; launch < launches + count; ++launch) {
    std::printf("%s %s device %d context %d%s%s\n", launch->kernel, launch->code, launch->device, launch->context,
                launch->captured ? " captured" : "", launch->early ? " early" : "");
  }
}

// The norm of one library, and what it says of an error.
void norm(TensorRt& tensorrt, Tensors& tensors, void* stream) {
  const int error = tensorrt.enqueue(tensors, stream);
  error == 0 ? say("TensorRT", tensors.is_normed()) : void(std::printf("TensorRT: error %d\n", error));
}

void norm(OnnxRuntime& onnxruntime, Tensors& tensors, void* stream) {
  const std::string text = onnxruntime.compute(tensors, stream);
  text.empty() ? say("ONNX Runtime", tensors.is_normed()) : void(std::printf("ONNX Runtime: %s\n", text.c_str()));
}

void launch(TensorRt& tensorrt, OnnxRuntime& onnxruntime) {
  int devices = 0;
  device::call("cuInit", 0U);
  device::call("cuDeviceGetCount", &devices);
  for (int device = 0; device < 2 * devices; ++device) {
    void* context = nullptr;
    CUstream_st* stream = nullptr;
    device::call("cuCtxCreate_v2", &context, 0U, device % devices);
    device::call("cuStreamCreate", &stream, 1U);
    Tensors tensors;
    tensorrt.attach();
    if (const std::string text = onnxruntime.create(); !text.empty()) {
      std::printf("session: %s\n", text.c_str());
      return;
    }
    // First of all, so that nothing but the creation of the session and the attachment can have loaded the kernels.
    int error = device::captured([&](void* to) { return tensorrt.enqueue(tensors, to); });
    say("TensorRT, captured", error == 0 && tensors.is_normed());
    error = device::captured([&](void* to) { return onnxruntime.compute(tensors, to).empty() ? 0 : 1; });
    say("ONNX Runtime, captured", error == 0 && tensors.is_normed());
    norm(tensorrt, tensors, stream);
    norm(onnxruntime, tensors, stream);
  }
  print_launches();
}

void current(TensorRt& tensorrt, OnnxRuntime& onnxruntime) {
  std::thread([&] {
    if (const std::string text = onnxruntime.create(); !text.empty()) {
      std::printf("session: %s\n", text.c_str());
      return;
    }
    Tensors tensors;
    norm(onnxruntime, tensors, nullptr);
  }).join();
  std::thread([&] {
    tensorrt.attach();
    Tensors tensors;
    norm(tensorrt, tensors, nullptr);
  }).join();
}

void in_child(const char* when, const std::function<void()>& body) {
  std::printf("%s\n", when);
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    body();
    std::fflush(stdout);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  std::printf("child ends with %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

}  // namespace

int main(int, char** arguments) {
  TensorRt tensorrt(arguments[1]);
  OnnxRuntime onnxruntime(arguments[2]);
  const std::string mode = arguments[3];
  if (mode == "launch") {
    launch(tensorrt, onnxruntime);
  } else if (mode == "current") {
    current(tensorrt, onnxruntime);
  } else {
    in_child("before", [&] { current(tensorrt, onnxruntime); });
    current(tensorrt, onnxruntime);
    tensorrt.attach();
    Tensors tensors;
    in_child("after", [&] {
      const int error = tensorrt.enqueue(tensors, nullptr);
      std::printf("TensorRT: error %d\n", error);
      std::printf("ONNX Runtime: %s\n", onnxruntime.compute(tensors, nullptr).c_str());
    });
    norm(onnxruntime, tensors, nullptr);
    norm(tensorrt, tensors, nullptr);
  }
  return 0;
}
