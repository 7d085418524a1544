// ONNX Runtime, as far as a custom op sees it: a table of functions, and one node with two inputs and one output.
#pragma once

#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "onnxruntime/api.h"

namespace rms_deploy::ort {

struct Status {
  std::string text;
};
struct Value {
  void* data;
  std::vector<int64_t> dims;
};
struct TensorInfo {
  std::vector<int64_t> dims;
};
struct CustomOpDomain {
  std::vector<const CustomOp*> ops;
};
struct KernelContext {
  const Value* inputs[2];
  Value* output;
  void* stream;
};

namespace host {

inline std::vector<const CustomOp*> registered;

inline Status* absent() { return new Status{"no such attribute"}; }

// The functions that the op calls, at their positions.
inline const void* table() {
  static void* functions[512] = {};
  static Api api(functions);
  api.CreateStatus = [](int32_t, const char* message) { return new Status{message}; };
  api.ReleaseStatus = [](Status* status) { delete status; };
  api.CreateCustomOpDomain = [](const char*, CustomOpDomain** domain) -> Status* {
    *domain = new CustomOpDomain;
    return nullptr;
  };
  api.CustomOpDomain_Add = [](CustomOpDomain* domain, const CustomOp* op) -> Status* {
    domain->ops.push_back(op);
    return nullptr;
  };
  api.AddCustomOpDomain = [](SessionOptions*, CustomOpDomain* domain) -> Status* {
    registered = domain->ops;
    return nullptr;
  };
  api.ReleaseCustomOpDomain = [](CustomOpDomain* domain) { delete domain; };
  api.KernelInfoGetAttribute_float = [](const KernelInfo*, const char*, float*) { return absent(); };
  api.KernelInfoGetAttribute_int64 = [](const KernelInfo*, const char*, int64_t*) { return absent(); };
  api.KernelInfoGetAttribute_string = [](const KernelInfo*, const char*, char*, size_t*) { return absent(); };
  api.KernelInfoGetAttributeArray_float = [](const KernelInfo*, const char*, float*, size_t*) { return absent(); };
  api.KernelInfoGetAttributeArray_int64 = [](const KernelInfo*, const char*, int64_t*, size_t*) { return absent(); };
  api.KernelInfo_GetNodeName = [](const KernelInfo*, char* name, size_t* size) -> Status* {
    *size = 5;
    if (name != nullptr) {
      std::memcpy(name, "norm", 5);
    }
    return nullptr;
  };
  api.KernelInfoGetConstantInput_tensor = [](const KernelInfo*, size_t, int* is_constant, const Value**) -> Status* {
    *is_constant = 0;
    return nullptr;
  };
  api.KernelContext_GetInput = [](const KernelContext* context, size_t index, const Value** value) -> Status* {
    *value = context->inputs[index];
    return nullptr;
  };
  api.KernelContext_GetOutput = [](KernelContext* context, size_t, const int64_t*, size_t, Value** value) -> Status* {
    *value = context->output;
    return nullptr;
  };
  api.KernelContext_GetGPUComputeStream = [](const KernelContext* context, void** stream) -> Status* {
    *stream = context->stream;
    return nullptr;
  };
  api.GetTensorMutableData = [](Value* value, void** data) -> Status* {
    *data = value->data;
    return nullptr;
  };
  api.GetTensorTypeAndShape = [](const Value* value, TensorInfo** info) -> Status* {
    *info = new TensorInfo{value->dims};
    return nullptr;
  };
  api.GetDimensionsCount = [](const TensorInfo* info, size_t* rank) -> Status* {
    *rank = info->dims.size();
    return nullptr;
  };
  api.GetDimensions = [](const TensorInfo* info, int64_t* dims, size_t) -> Status* {
    std::copy(info->dims.begin(), info->dims.end(), dims);
    return nullptr;
  };
  api.ReleaseTensorTypeAndShapeInfo = [](TensorInfo* info) { delete info; };
#define RMS_DEPLOY_HOST_PUT(position, name, result, arguments) functions[position] = reinterpret_cast<void*>(api.name);
  RMS_DEPLOY_ORT_FUNCTIONS(RMS_DEPLOY_HOST_PUT)
#undef RMS_DEPLOY_HOST_PUT
  return functions;
}

inline std::string taken(Status* status) {
  const std::string text = status == nullptr ? "" : status->text;
  delete status;
  return text;
}

// RMSNorm of float32 on the CUDA provider, out of the library at `path`.
inline const CustomOp& cuda_op(const char* path) {
  static const ApiBase base = {[](uint32_t) { return table(); }, [] { return "1.18.0"; }};
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  using Register = Status* (*)(SessionOptions*, const ApiBase*);
  taken(reinterpret_cast<Register>(dlsym(library, "RegisterCustomOps"))(nullptr, &base));
  return **std::find_if(registered.begin(), registered.end(), [](const CustomOp* op) {
    const char* provider = op->GetExecutionProviderType(op);
    return provider != nullptr && std::strcmp(provider, "CUDAExecutionProvider") == 0 &&
           std::strcmp(op->GetName(op), "RMSNorm") == 0 && op->GetInputType(op, 0) == 1;
  });
}

}  // namespace host

}  // namespace rms_deploy::ort
