// The entry of the CUDA kernels' tests, and beside it the same norm through the plugin object, as TensorRT drives it:
// create -> clone -> serialise -> create again -> attach -> shapes -> enqueue. The enqueue is captured into a CUDA
// graph in the strictest mode, and the graph is launched.
#include "../../kernels/cuda/entry.cpp"

#include <memory>
#include <vector>

#include "tensorrt/api.h"

extern "C" nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count);

namespace {

using namespace nvinfer1;

using rms_deploy::contract::kKinds;

// The number of the contract's kind that has these parts.
int32_t kind_of(const Options& o, bool has_operand, bool has_shift) {
  using namespace rms_deploy::contract;
  const Gate gate = static_cast<Gate>(o.gate);
  const bool is_add = has_operand && gate == Gate::kNone;
  const Sum sum = !is_add ? Sum::kNone : o.normalizes_float32_sum != 0 ? Sum::kFloat32 : Sum::kRounded;
  const End end = has_shift ? End::kShift : o.quantized_type != 0 ? End::kQuantize : End::kNone;
  const bool is_partial = !is_add && gate == Gate::kNone && end == End::kNone && o.statistics_size != o.n;
  int32_t number = 0;
  for (const Kind& kind : kKinds) {
    if (kind.sum == sum && kind.is_partial == is_partial && kind.is_reciprocal == (o.round_reciprocal != 0) &&
        kind.gate == gate && kind.end == end) {
      return number;
    }
    ++number;
  }
  return -1;
}

IPluginCreatorV3One* creator(int32_t kind) {
  int32_t count = 0;
  return static_cast<IPluginCreatorV3One*>(getCreators(count)[kind]);
}

template <class Capability>
Capability* capability(IPluginV3& plugin, PluginCapabilityType type) {
  return static_cast<Capability*>(plugin.getCapabilityInterface(type));
}

DataType data_type(int32_t element_type) {
  return element_type == 1 ? DataType::kFLOAT : element_type == 10 ? DataType::kHALF : DataType::kBF16;
}

PluginTensorDesc description(int32_t type, const std::vector<int64_t>& dims) {
  PluginTensorDesc result{};
  result.type = data_type(type);
  result.format = TensorFormat::kLINEAR;
  result.dims.nbDims = static_cast<int32_t>(dims.size());
  std::memcpy(result.dims.d, dims.data(), dims.size() * sizeof dims[0]);
  return result;
}

std::unique_ptr<IPluginV3> made(const Options& o, int32_t kind, int64_t axis) {
  const int64_t scale_type = o.round_before_scale != 0 ? o.type : 1;
  std::vector<PluginField> fields{{"axes", &axis, PluginFieldType::kINT64, 1},
                                  {"epsilon", &o.epsilon, PluginFieldType::kFLOAT32, 1},
                                  {"rms_epsilon", &o.rms_epsilon, PluginFieldType::kFLOAT32, 1},
                                  {"rms_min", &o.rms_min, PluginFieldType::kFLOAT32, 1},
                                  {"scale_type", &scale_type, PluginFieldType::kINT64, 1}};
  const int64_t output_dtype = o.quantized_type;
  const int64_t precision = o.round_quotient != 0 ? o.type : 1;
  if (kKinds[kind].is_quantized()) {
    fields.emplace_back("y_scale", &o.y_scale, PluginFieldType::kFLOAT32, 1);
    fields.emplace_back("output_dtype", &output_dtype, PluginFieldType::kINT64, 1);
    fields.emplace_back("precision", &precision, PluginFieldType::kINT64, 1);
  }
  if (kKinds[kind].is_partial) {
    fields.emplace_back("partial_size", &o.statistics_size, PluginFieldType::kINT64, 1);
  }
  const PluginFieldCollection collection{static_cast<int32_t>(fields.size()), fields.data()};
  const std::unique_ptr<IPluginV3> built(creator(kind)->createPlugin("layer", &collection, TensorRTPhase::kBUILD));
  const std::unique_ptr<IPluginV3> clone(built == nullptr ? nullptr : built->clone());
  if (clone == nullptr) {
    return nullptr;
  }
  auto* runtime = capability<IPluginV3OneRuntime>(*clone, PluginCapabilityType::kRUNTIME);
  const std::unique_ptr<IPluginV3> loaded(
      creator(kind)->createPlugin("layer", runtime->getFieldsToSerialize(), TensorRTPhase::kRUNTIME));
  if (loaded == nullptr) {
    return nullptr;
  }
  runtime = capability<IPluginV3OneRuntime>(*loaded, PluginCapabilityType::kRUNTIME);
  return std::unique_ptr<IPluginV3>(runtime->attachToContext(nullptr));
}

}  // namespace

// As `run`, through the plugin. Outputs may not take the memory of inputs. -2: TensorRT would have been refused.
extern "C" __attribute__((visibility("default"))) int run_plugin(const Options* options, const Buffer* buffers) {
  const Options& o = *options;
  if (const int error = static_cast<int>(rms_deploy::cuda::prepare())) {
    return error;
  }
  const OnDevice x(buffers[0]), operand(buffers[1]), scale(buffers[2]), shift(buffers[3]);
  const OnDevice y(buffers[4]), sum(buffers[5]);
  for (const OnDevice* buffer : {&x, &operand, &scale, &shift, &y, &sum}) {
    if (buffer->error() != 0) {
      return buffer->error();
    }
  }
  const bool has_operand = buffers[1].host != nullptr, has_shift = buffers[3].host != nullptr;
  const int32_t kind = kind_of(o, has_operand, has_shift);
  const bool takes_rows = o.gate != 0 || has_shift || o.quantized_type != 0 || o.normalizes_float32_sum != 0 ||
                          o.sum_type != o.type;  // then the axes are the last
  const std::unique_ptr<IPluginV3> plugin = kind < 0 ? nullptr : made(o, kind, takes_rows ? -1 : -2);
  if (plugin == nullptr || o.y_is != 0 || o.sum_is != 0) {
    return -2;
  }
  auto* runtime = capability<IPluginV3OneRuntime>(*plugin, PluginCapabilityType::kRUNTIME);
  const int64_t turns = o.outer / (o.scale_rows * o.scale_repeat);
  std::vector<int64_t> shape{turns, o.scale_rows, o.scale_repeat, o.n};
  std::vector<int64_t> scale_shape{o.scale_rows, 1, o.scalar_scale != 0 ? 1 : o.n};
  if (!takes_rows) {
    shape.push_back(o.inner);
    scale_shape.push_back(1);
  }
  const PluginTensorDesc tensor = description(o.type, shape), weight = description(o.scale_type, scale_shape);
  std::vector<PluginTensorDesc> in{tensor};
  std::vector<const void*> inputs{x.tensor()};
  if (has_operand) {
    in.push_back(description(o.gate != 0 ? o.type : o.sum_type, shape));
    inputs.push_back(operand.tensor());
  }
  in.push_back(weight);
  inputs.push_back(scale.tensor());
  if (has_shift) {
    in.push_back(weight);
    inputs.push_back(shift.tensor());
  }
  const PluginTensorDesc out[] = {tensor, tensor};  // not looked at
  void* outputs[] = {y.tensor(), sum.tensor()};
  const int32_t in_count = static_cast<int32_t>(in.size()), out_count = kKinds[kind].is_add() ? 2 : 1;
  if (runtime->setTactic(o.tactic) != 0 || runtime->onShapeChange(in.data(), in_count, out, out_count) != 0) {
    return -2;
  }
  const int error = device::captured(
      [&](cudaStream_t stream) { return runtime->enqueue(in.data(), out, inputs.data(), outputs, nullptr, stream); });
  const int finished = device::synchronize();
  if (error != 0 || finished != 0) {
    return error != 0 ? error : finished;
  }
  for (const OnDevice* buffer : {&x, &operand, &scale, &shift, &y, &sum}) {
    if (const int failed = buffer->copy_back()) {
      return failed;
    }
  }
  return 0;
}
