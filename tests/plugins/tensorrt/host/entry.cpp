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

// The contract's kinds: those without a gate, their twins, and those with a gate in the order of contract::Gate.
enum Kind { kNorm, kPartialNorm, kAddNorm, kTwins, kGatedNorms = 6 };

Kind kind_of(const Options& o, bool has_operand) {
  if (o.gate != 0) {
    return static_cast<Kind>(kGatedNorms + o.gate - 1);
  }
  return has_operand ? kAddNorm : o.statistics_size != o.n ? kPartialNorm : kNorm;
}

IPluginCreatorV3One* creator(const Options& o, Kind kind) {
  int32_t count = 0;
  return static_cast<IPluginCreatorV3One*>(getCreators(count)[kind + (o.round_reciprocal != 0 ? kTwins : 0)]);
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

std::unique_ptr<IPluginV3> made(const Options& o, Kind kind) {
  const int64_t axis = o.gate != 0 ? -1 : -2, scale_type = o.round_before_scale != 0 ? o.type : 1;
  std::vector<PluginField> fields{{"axes", &axis, PluginFieldType::kINT64, 1},
                                  {"epsilon", &o.epsilon, PluginFieldType::kFLOAT32, 1},
                                  {"rms_epsilon", &o.rms_epsilon, PluginFieldType::kFLOAT32, 1},
                                  {"rms_min", &o.rms_min, PluginFieldType::kFLOAT32, 1},
                                  {"scale_type", &scale_type, PluginFieldType::kINT64, 1}};
  if (kind == kPartialNorm) {
    fields.emplace_back("partial_size", &o.statistics_size, PluginFieldType::kINT64, 1);
  }
  const PluginFieldCollection collection{static_cast<int32_t>(fields.size()), fields.data()};
  const std::unique_ptr<IPluginV3> built(creator(o, kind)->createPlugin("layer", &collection, TensorRTPhase::kBUILD));
  const std::unique_ptr<IPluginV3> clone(built == nullptr ? nullptr : built->clone());
  if (clone == nullptr) {
    return nullptr;
  }
  auto* runtime = capability<IPluginV3OneRuntime>(*clone, PluginCapabilityType::kRUNTIME);
  const std::unique_ptr<IPluginV3> loaded(
      creator(o, kind)->createPlugin("layer", runtime->getFieldsToSerialize(), TensorRTPhase::kRUNTIME));
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
  const OnDevice x(buffers[0]), operand(buffers[1]), scale(buffers[2]), y(buffers[3]), sum(buffers[4]);
  for (const OnDevice* buffer : {&x, &operand, &scale, &y, &sum}) {
    if (buffer->error() != 0) {
      return buffer->error();
    }
  }
  const bool has_operand = buffers[1].host != nullptr;
  const Kind kind = kind_of(o, has_operand);
  const std::unique_ptr<IPluginV3> plugin = made(o, kind);
  if (plugin == nullptr || o.y_is != 0 || o.sum_is != 0) {
    return -2;
  }
  auto* runtime = capability<IPluginV3OneRuntime>(*plugin, PluginCapabilityType::kRUNTIME);
  const int64_t turns = o.outer / (o.scale_rows * o.scale_repeat);
  std::vector<int64_t> shape{turns, o.scale_rows, o.scale_repeat, o.n};
  std::vector<int64_t> scale_shape{o.scale_rows, 1, o.scalar_scale != 0 ? 1 : o.n};
  if (o.gate == 0) {  // whose axes are the last
    shape.push_back(o.inner);
    scale_shape.push_back(1);
  }
  const PluginTensorDesc tensor = description(o.type, shape), weight = description(o.scale_type, scale_shape);
  const PluginTensorDesc in[] = {tensor, has_operand ? tensor : weight, weight}, out[] = {tensor, tensor};
  const void* inputs[] = {x.tensor(), has_operand ? operand.tensor() : scale.tensor(), scale.tensor()};
  void* outputs[] = {y.tensor(), sum.tensor()};
  const int32_t in_count = has_operand ? 3 : 2, out_count = kind == kAddNorm ? 2 : 1;
  if (runtime->setTactic(o.tactic) != 0 || runtime->onShapeChange(in, in_count, out, out_count) != 0) {
    return -2;
  }
  const int error = device::captured(
      [&](cudaStream_t stream) { return runtime->enqueue(in, out, inputs, outputs, nullptr, stream); });
  const int finished = device::synchronize();
  if (error != 0 || finished != 0) {
    return error != 0 ? error : finished;
  }
  for (const OnDevice* buffer : {&x, &operand, &scale, &y, &sum}) {
    if (const int failed = buffer->copy_back()) {
      return failed;
    }
  }
  return 0;
}
