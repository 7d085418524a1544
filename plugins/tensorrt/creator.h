// What TensorRT makes plugins with: one creator for each op.
#pragma once

#include <vector>

#include "node.h"
#include "tensorrt/api.h"

namespace rms_deploy::trt {

class Creator final : public nvinfer1::IPluginCreatorV3One {
 public:
  explicit Creator(const Kind& kind);

  nvinfer1::IPluginV3* createPlugin(const char* name, const nvinfer1::PluginFieldCollection* fields,
                                    nvinfer1::TensorRTPhase phase) noexcept override;
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override;
  const char* getPluginName() const noexcept override;
  const char* getPluginVersion() const noexcept override;
  const char* getPluginNamespace() const noexcept override;

 private:
  const Kind kind_;
  const std::vector<nvinfer1::PluginField> names_;
  const nvinfer1::PluginFieldCollection collection_;
};

}  // namespace rms_deploy::trt
