#include "onnxruntime/op.h"

#include <atomic>
#include <limits>

#include "onnxruntime/error.h"

namespace rms_deploy::ort {

namespace {

const Op& self(const CustomOp* op) { return *static_cast<const Op*>(op); }

int32_t input_type(const CustomOp* op, size_t index) {
  const Types& types = self(op).types;
  const bool is_behind_x = index >= static_cast<size_t>(scale_index(self(op).kind));
  return static_cast<int32_t>(is_behind_x ? types.scale : index == 0 ? types.x : types.sum);
}

int32_t output_type(const CustomOp* op, size_t index) {
  return static_cast<int32_t>(index == 0 ? self(op).types.x : self(op).types.sum);
}

// The outputs have the shape of X, with the names of its dynamic dimensions, and Sum the type of R. A dimension that is
// unknown and unnamed gets a name of its own, because ONNX Runtime would write it down as the number -1. Rank 0 stands
// for an unknown shape.
void infer_shape(const Op& op, ShapeInferContext* context) {
  static std::atomic<uint64_t> unnamed{0};
  TensorInfo* info = nullptr;
  check(op.api.ShapeInferContext_GetInputTypeShape(context, 0, &info));
  size_t rank = 0;
  check(op.api.GetDimensionsCount(info, &rank));
  if (rank == 0 || rank > kMaxRank) {
    return;
  }
  int64_t dims[kMaxRank];
  const char* names[kMaxRank];
  std::string fresh[kMaxRank];
  check(op.api.GetDimensions(info, dims, rank));
  check(op.api.GetSymbolicDimensions(info, names, rank));
  for (size_t i = 0; i < rank; ++i) {
    if (dims[i] < 0 && *names[i] == '\0') {
      fresh[i] = "rms_deploy_dim_" + std::to_string(unnamed++);
      names[i] = fresh[i].c_str();
    } else {
      fresh[i] = names[i];  // SetSymbolicDimensions may replace what GetSymbolicDimensions pointed into
      names[i] = fresh[i].c_str();
    }
  }
  check(op.api.SetSymbolicDimensions(info, names, rank));
  check(op.api.ShapeInferContext_SetOutputTypeShape(context, 0, info));
  if (op.kind.is_add()) {
    TensorInfo* residual = nullptr;
    int32_t type = 0;
    check(op.api.ShapeInferContext_GetInputTypeShape(context, 1, &residual));
    check(op.api.GetTensorElementType(residual, &type));
    check(op.api.SetTensorElementType(info, type));
    check(op.api.ShapeInferContext_SetOutputTypeShape(context, 1, info));
  }
}

// Y may take the memory of X, and Sum that of R, which have their types. The kernels read an element before they write
// it.
template <size_t kCount>
size_t may_inplace(int** inputs, int** outputs) {
  static int places[] = {0, 1};
  *inputs = places;
  *outputs = places;
  return kCount;
}

}  // namespace

Op::Op(const Api& table, const Provider& where, const Kind& op_kind, const Types& op_types)
    : CustomOp{}, api(table), provider(where), kind(op_kind), types(op_types) {
  version = kVersion;
  GetName = [](const CustomOp* op) { return self(op).kind.name; };
  GetExecutionProviderType = [](const CustomOp* op) { return self(op).provider.name; };
  GetInputType = input_type;
  GetInputTypeCount = [](const CustomOp* op) { return static_cast<size_t>(input_count(self(op).kind)); };
  GetOutputType = output_type;
  GetOutputTypeCount = [](const CustomOp* op) { return static_cast<size_t>(output_count(self(op).kind)); };
  KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  GetInputCharacteristic = [](const CustomOp*, size_t) -> int32_t { return kRequired; };
  // An add-norm requires its second output too. The shape function cannot ask ONNX Runtime whether a node has it, and
  // ONNX Runtime writes out of bounds when it is told the shape of an output that the node leaves out.
  GetOutputCharacteristic = [](const CustomOp*, size_t) -> int32_t { return kRequired; };
  GetInputMemoryType = [](const CustomOp*, size_t) -> int32_t { return 0; };
  GetVariadicInputMinArity = [](const CustomOp*) { return 0; };
  GetVariadicInputHomogeneity = [](const CustomOp*) { return 0; };
  GetVariadicOutputMinArity = [](const CustomOp*) { return 0; };
  GetVariadicOutputHomogeneity = [](const CustomOp*) { return 0; };
  CreateKernelV2 = [](const CustomOp* op, const void*, const KernelInfo* info, void** kernel) {
    const Op& o = self(op);
    return guarded(o.api, [&] { *kernel = o.provider.make_kernel(o.api, info, o.kind, o.types).release(); });
  };
  KernelComputeV2 = [](void* kernel, KernelContext* context) {
    const Kernel& k = *static_cast<const Kernel*>(kernel);
    return guarded(k.api(), [&] { k.compute(context); });
  };
  InferOutputShapeFn = [](const CustomOp* op, ShapeInferContext* context) {
    return guarded(self(op).api, [&] { infer_shape(self(op), context); });
  };
  GetStartVersion = [](const CustomOp*) { return contract::kVersion; };
  GetEndVersion = [](const CustomOp*) { return std::numeric_limits<int>::max(); };
  GetMayInplace = kind.is_add() ? may_inplace<2> : may_inplace<1>;
  ReleaseMayInplace = [](int*, int*) {};
}

}  // namespace rms_deploy::ort
