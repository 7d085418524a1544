// The part of ONNX Runtime's C interface that a custom op needs, in our own words, so that no SDK is needed to build.
//
// The interface is a table of functions, obtained by version number. It is append-only: a function keeps its position
// in every later version, so the positions below hold for each onnxruntime that has version kVersion.
// tests/plugins/onnxruntime/test_api.py compares them with the official header where one is at hand.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rms_deploy::ort {

// 18 (onnxruntime 1.18) is the first whose custom ops can say which output may reuse which input's memory.
inline constexpr uint32_t kVersion = 18;

enum ErrorCode : int32_t { kFail = 1, kInvalidArgument = 2, kNotImplemented = 9 };
enum Characteristic : int32_t { kRequired = 0 };

struct Status;
struct Value;
struct SessionOptions;
struct CustomOpDomain;
struct KernelInfo;
struct KernelContext;
struct ShapeInferContext;
struct TensorInfo;
struct CustomOp;

// position, name, result, arguments
#define RMS_DEPLOY_ORT_FUNCTIONS(F)                                                                                    \
  F(0, CreateStatus, Status*, (int32_t code, const char* message))                                                     \
  F(26, CreateCustomOpDomain, Status*, (const char* name, CustomOpDomain** domain))                                    \
  F(27, CustomOpDomain_Add, Status*, (CustomOpDomain * domain, const CustomOp* op))                                    \
  F(28, AddCustomOpDomain, Status*, (SessionOptions * options, CustomOpDomain * domain))                               \
  F(51, GetTensorMutableData, Status*, (Value * value, void** data))                                                   \
  F(58, SetTensorElementType, Status*, (TensorInfo * info, int32_t type))                                              \
  F(60, GetTensorElementType, Status*, (const TensorInfo* info, int32_t* type))                                        \
  F(61, GetDimensionsCount, Status*, (const TensorInfo* info, size_t* rank))                                           \
  F(62, GetDimensions, Status*, (const TensorInfo* info, int64_t* dims, size_t rank))                                  \
  F(63, GetSymbolicDimensions, Status*, (const TensorInfo* info, const char** names, size_t rank))                     \
  F(65, GetTensorTypeAndShape, Status*, (const Value* value, TensorInfo** info))                                       \
  F(85, KernelInfoGetAttribute_float, Status*, (const KernelInfo* info, const char* name, float* value))               \
  F(86, KernelInfoGetAttribute_int64, Status*, (const KernelInfo* info, const char* name, int64_t* value))             \
  F(87, KernelInfoGetAttribute_string, Status*, (const KernelInfo* info, const char* name, char* value, size_t* size)) \
  F(90, KernelContext_GetInput, Status*, (const KernelContext* context, size_t index, const Value** value))            \
  F(91, KernelContext_GetOutput, Status*,                                                                              \
    (KernelContext * context, size_t index, const int64_t* dims, size_t rank, Value** value))                          \
  F(93, ReleaseStatus, void, (Status * status))                                                                        \
  F(99, ReleaseTensorTypeAndShapeInfo, void, (TensorInfo * info))                                                      \
  F(101, ReleaseCustomOpDomain, void, (CustomOpDomain * domain))                                                       \
  F(162, KernelInfoGetAttributeArray_float, Status*,                                                                   \
    (const KernelInfo* info, const char* name, float* values, size_t* size))                                           \
  F(163, KernelInfoGetAttributeArray_int64, Status*,                                                                   \
    (const KernelInfo* info, const char* name, int64_t* values, size_t* size))                                         \
  F(193, KernelContext_GetGPUComputeStream, Status*, (const KernelContext* context, void** stream))                    \
  F(233, KernelInfo_GetOutputName, Status*, (const KernelInfo* info, size_t index, char* name, size_t* size))          \
  F(244, KernelInfo_GetNodeName, Status*, (const KernelInfo* info, char* name, size_t* size))                          \
  F(249, KernelInfoGetConstantInput_tensor, Status*,                                                                   \
    (const KernelInfo* info, size_t index, int* is_constant, const Value** value))                                     \
  F(268, ShapeInferContext_GetInputTypeShape, Status*,                                                                 \
    (const ShapeInferContext* context, size_t index, TensorInfo** info))                                               \
  F(270, ShapeInferContext_SetOutputTypeShape, Status*,                                                                \
    (const ShapeInferContext* context, size_t index, const TensorInfo* info))                                          \
  F(271, SetSymbolicDimensions, Status*, (TensorInfo * info, const char** names, size_t rank))                         \
  F(274, KernelContext_ParallelFor, Status*,                                                                           \
    (const KernelContext* context, void (*body)(void*, size_t), size_t total, size_t batches, void* data))

// From kLaterVersion on: a shape without the TensorInfo that GetTensorTypeAndShape allocates, which saves 0.1 us.
inline constexpr uint32_t kLaterVersion = 24;
#define RMS_DEPLOY_ORT_LATER_FUNCTIONS(F)                    \
  F(414, GetTensorElementTypeAndShapeDataReference, Status*, \
    (const Value* value, int32_t* type, const int64_t** dims, size_t* rank))

// The functions above, copied out of a table; the later ones are null if it is older.
struct Api {
  explicit Api(const void* table, bool has_later = false) {
    const char* bytes = static_cast<const char*>(table);
#define RMS_DEPLOY_ORT_COPY(position, name, result, arguments) \
  name = *reinterpret_cast<decltype(name) const*>(bytes + (position) * sizeof(void*));
    RMS_DEPLOY_ORT_FUNCTIONS(RMS_DEPLOY_ORT_COPY)
    if (has_later) {
      RMS_DEPLOY_ORT_LATER_FUNCTIONS(RMS_DEPLOY_ORT_COPY)
    }
#undef RMS_DEPLOY_ORT_COPY
  }

#define RMS_DEPLOY_ORT_MEMBER(position, name, result, arguments) result(*name) arguments = nullptr;
  RMS_DEPLOY_ORT_FUNCTIONS(RMS_DEPLOY_ORT_MEMBER)
  RMS_DEPLOY_ORT_LATER_FUNCTIONS(RMS_DEPLOY_ORT_MEMBER)
#undef RMS_DEPLOY_ORT_MEMBER
};

// What a library gets when it is registered.
struct ApiBase {
  const void* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

// One op for one combination of types, as ONNX Runtime calls it. `version` tells ONNX Runtime which members there are.
struct CustomOp {
  uint32_t version;
  void* (*CreateKernel)(const CustomOp*, const void* table, const KernelInfo*);  // null: CreateKernelV2 is used
  const char* (*GetName)(const CustomOp*);
  const char* (*GetExecutionProviderType)(const CustomOp*);  // null result: the CPU provider
  int32_t (*GetInputType)(const CustomOp*, size_t index);
  size_t (*GetInputTypeCount)(const CustomOp*);
  int32_t (*GetOutputType)(const CustomOp*, size_t index);
  size_t (*GetOutputTypeCount)(const CustomOp*);
  void (*KernelCompute)(void* kernel, KernelContext*);  // null: KernelComputeV2 is used
  void (*KernelDestroy)(void* kernel);
  int32_t (*GetInputCharacteristic)(const CustomOp*, size_t index);
  int32_t (*GetOutputCharacteristic)(const CustomOp*, size_t index);
  int32_t (*GetInputMemoryType)(const CustomOp*, size_t index);  // 0: where the provider computes
  int (*GetVariadicInputMinArity)(const CustomOp*);
  int (*GetVariadicInputHomogeneity)(const CustomOp*);
  int (*GetVariadicOutputMinArity)(const CustomOp*);
  int (*GetVariadicOutputHomogeneity)(const CustomOp*);
  Status* (*CreateKernelV2)(const CustomOp*, const void* table, const KernelInfo*, void** kernel);
  Status* (*KernelComputeV2)(void* kernel, KernelContext*);
  Status* (*InferOutputShapeFn)(const CustomOp*, ShapeInferContext*);
  int (*GetStartVersion)(const CustomOp*);
  int (*GetEndVersion)(const CustomOp*);
  size_t (*GetMayInplace)(int** inputs, int** outputs);
  void (*ReleaseMayInplace)(int* inputs, int* outputs);
  size_t (*GetAliasMap)(int** inputs, int** outputs);
  void (*ReleaseAliasMap)(int* inputs, int* outputs);
};

}  // namespace rms_deploy::ort
