#include "tensorrt/plugin.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "tensorrt/attributes.h"
#include "tensorrt/error.h"
#include "tensorrt/problem.h"

namespace rms_deploy::trt {

namespace {

using nvinfer1::DataType;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;

void require_counts(const Node& node, int32_t inputs, int32_t outputs) {
  const int32_t wanted_inputs = input_count(node.kind);
  const int32_t wanted_outputs = output_count(node.kind);
  if (inputs != wanted_inputs || outputs != wanted_outputs) {
    throw Error(node.label + ": has " + std::to_string(inputs) + " inputs and " + std::to_string(outputs) +
                " outputs; use " + std::to_string(wanted_inputs) + " and " + std::to_string(wanted_outputs));
  }
}

bool same_dims(const nvinfer1::Dims& a, const nvinfer1::Dims& b) {
  return std::equal(a.d, a.d + a.nbDims, b.d, b.d + b.nbDims);
}

}  // namespace

Plugin::Plugin(Node node)
    : node_(std::move(node)),
      metadata_(attributes_text(node_)),
      timing_cache_id_(metadata_ + " kernels=" RMS_DEPLOY_KERNELS),
      fields_(fields_of(node_)),
      collection_{static_cast<int32_t>(fields_.size()), fields_.data()} {}

Plugin::Plugin(const Plugin& other) : Plugin(other.node_) {
  std::copy(std::begin(other.tactics_), std::end(other.tactics_), tactics_);
  tactic_count_ = other.tactic_count_;
  tactic_ = other.tactic_;
  prepared_ = other.prepared_;
}

nvinfer1::IPluginCapability* Plugin::getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept {
  switch (type) {
    case nvinfer1::PluginCapabilityType::kCORE:
      return static_cast<nvinfer1::IPluginV3OneCore*>(this);
    case nvinfer1::PluginCapabilityType::kBUILD:
      return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
    case nvinfer1::PluginCapabilityType::kRUNTIME:
      return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
  }
  return nullptr;
}

nvinfer1::IPluginV3* Plugin::clone() noexcept {
  return guarded<nvinfer1::IPluginV3*>(nullptr, [&] { return new Plugin(*this); });
}

const char* Plugin::getPluginName() const noexcept { return node_.kind.name; }

const char* Plugin::getPluginVersion() const noexcept { return contract::kPluginVersion; }

const char* Plugin::getPluginNamespace() const noexcept { return contract::kDomain; }

// Shapes that no value of the dynamic dimensions makes right are refused here, so that the build says it. TensorRT
// times tactics at one shape and keeps the fastest for all: where the profile has others, the launch chooses by size.
int32_t Plugin::configurePlugin(const DynamicPluginTensorDesc* in, int32_t inputs, const DynamicPluginTensorDesc*,
                                int32_t outputs) noexcept {
  return guarded(kFailed, [&] {
    require_counts(node_, inputs, outputs);
    const PluginTensorDesc* descriptions[kMostInputs] = {};
    PluginTensorDesc only[kMostInputs];
    bool has_one_shape = true;
    for (int32_t i = 0; i < inputs; ++i) {
      descriptions[i] = &in[i].desc;
      only[i] = in[i].desc;
      only[i].dims = in[i].opt;
      has_one_shape = has_one_shape && same_dims(in[i].min, in[i].max);
    }
    check_tensors(node_, descriptions);
    const bool has_tactics = has_one_shape && !has_shift(node_.kind);  // a shift is known by its pointer
    tactic_count_ = has_tactics ? cuda::tactics(problem_of(node_, only), tactics_) : 0;
    return kOk;
  });
}

int32_t Plugin::getOutputDataTypes(DataType* output_types, int32_t outputs, const DataType* input_types,
                                   int32_t inputs) const noexcept {
  return guarded(kFailed, [&] {
    require_counts(node_, inputs, outputs);
    check_types(node_, input_types);
    for (int32_t i = 0; i < outputs; ++i) {
      output_types[i] = output_type(node_, i, input_types);
    }
    return kOk;
  });
}

int32_t Plugin::getOutputShapes(const nvinfer1::DimsExprs* in, int32_t inputs, const nvinfer1::DimsExprs*, int32_t,
                                nvinfer1::DimsExprs* out, int32_t outputs, nvinfer1::IExprBuilder&) noexcept {
  return guarded(kFailed, [&] {
    require_counts(node_, inputs, outputs);
    const int32_t ranks[] = {in[kX].nbDims, in[kOperand].nbDims};
    check_ranks(node_, ranks);
    std::fill(out, out + outputs, in[kX]);
    return kOk;
  });
}

// All tensors are linear. A tensor's type depends on those of the tensors before it.
bool Plugin::supportsFormatCombination(int32_t position, const DynamicPluginTensorDesc* in_out, int32_t,
                                       int32_t) noexcept {
  if (in_out[position].desc.format != nvinfer1::TensorFormat::kLINEAR) {
    return false;
  }
  DataType types[kMostInputs + kMostOutputs];
  for (int32_t i = 0; i <= position; ++i) {
    types[i] = in_out[i].desc.type;
  }
  return takes_type_at(node_, position, types);
}

int32_t Plugin::getNbOutputs() const noexcept { return output_count(node_.kind); }

int32_t Plugin::getValidTactics(int32_t* tactics, int32_t count) noexcept {
  std::copy(tactics_, tactics_ + std::min(count, tactic_count_), tactics);
  return kOk;
}

int32_t Plugin::getNbTactics() noexcept { return tactic_count_; }

const char* Plugin::getTimingCacheID() noexcept { return timing_cache_id_.c_str(); }

const char* Plugin::getMetadataString() noexcept { return metadata_.c_str(); }

int32_t Plugin::setTactic(int32_t tactic) noexcept {
  tactic_ = tactic;
  return kOk;
}

// Also called before the builder times tactics. Then no context is attached, and the builder may capture the launches,
// so the kernels are loaded here too.
int32_t Plugin::onShapeChange(const PluginTensorDesc* in, int32_t inputs, const PluginTensorDesc*,
                              int32_t outputs) noexcept {
  return guarded(kFailed, [&] {
    require_counts(node_, inputs, outputs);
    const PluginTensorDesc* descriptions[kMostInputs] = {};
    for (int32_t i = 0; i < inputs; ++i) {
      descriptions[i] = &in[i];
    }
    check_tensors(node_, descriptions);
    prepare();
    return kOk;
  });
}

// The shapes are those that onShapeChange has checked.
int32_t Plugin::enqueue(const PluginTensorDesc* in, const PluginTensorDesc*, const void* const* inputs,
                        void* const* outputs, void*, cudaStream_t stream) noexcept {
  return guarded(kFailed, [&] {
    Problem problem = problem_of(node_, in);
    problem.x = inputs[kX];
    const int scale = scale_index(node_.kind);
    problem.scale = inputs[scale];
    problem.shift = has_shift(node_.kind) ? inputs[scale + 1] : nullptr;
    problem.y = outputs[0];
    problem.operand = operand_name(node_.kind) == nullptr ? nullptr : inputs[kOperand];
    problem.sum = node_.kind.is_add() ? outputs[1] : nullptr;
    const cuda::Error error = cuda::launch(problem, tactic_, stream);
    if (error != cuda::Error::kNone) {
      const std::string text = node_.label + ": the launch failed: " + cuda::text_of(error);
      log(Severity::kError, text.c_str());
    }
    return static_cast<int32_t>(error);
  });
}

nvinfer1::IPluginV3* Plugin::attachToContext(nvinfer1::IPluginResourceContext*) noexcept {
  return guarded<nvinfer1::IPluginV3*>(nullptr, [&] {
    auto attached = std::make_unique<Plugin>(*this);
    attached->prepared_ = false;  // the context may be on another device
    attached->prepare();
    return attached.release();
  });
}

// Only warns of a kernel that cannot be loaded: the launch that needs it returns the error.
void Plugin::prepare() {
  if (prepared_) {
    return;
  }
  prepared_ = true;
  const cuda::Error error = cuda::prepare();
  if (error != cuda::Error::kNone) {
    const std::string text = node_.label + ": the kernels cannot be loaded: " + cuda::text_of(error);
    log(Severity::kWarning, text.c_str());
  }
}

const nvinfer1::PluginFieldCollection* Plugin::getFieldsToSerialize() noexcept { return &collection_; }

}  // namespace rms_deploy::trt
