#include "tensorrt/creator.h"

#include "tensorrt/attributes.h"
#include "tensorrt/error.h"
#include "tensorrt/plugin.h"

namespace rms_deploy::trt {

Creator::Creator(const Kind& kind)
    : kind_(kind), names_(field_names(kind)), collection_{static_cast<int32_t>(names_.size()), names_.data()} {}

// The fields of a plan are those that getFieldsToSerialize gave: both phases read the same.
nvinfer1::IPluginV3* Creator::createPlugin(const char* name, const nvinfer1::PluginFieldCollection* fields,
                                           nvinfer1::TensorRTPhase) noexcept {
  return guarded<nvinfer1::IPluginV3*>(nullptr, [&] { return new Plugin(read_attributes(kind_, name, fields)); });
}

const nvinfer1::PluginFieldCollection* Creator::getFieldNames() noexcept { return &collection_; }

const char* Creator::getPluginName() const noexcept { return kind_.name; }

const char* Creator::getPluginVersion() const noexcept { return contract::kPluginVersion; }

const char* Creator::getPluginNamespace() const noexcept { return contract::kDomain; }

}  // namespace rms_deploy::trt
