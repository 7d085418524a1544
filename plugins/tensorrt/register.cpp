// The library's two exported functions: TensorRT calls them when it loads the library.
#include <array>
#include <iterator>

#include "tensorrt/creator.h"
#include "tensorrt/log.h"

#define RMS_DEPLOY_EXPORT extern "C" __attribute__((visibility("default")))

RMS_DEPLOY_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  using rms_deploy::trt::Creator;
  constexpr size_t kCount = std::size(rms_deploy::contract::kKinds);
  static const auto creators = [] {
    std::array<nvinfer1::IPluginCreatorInterface*, kCount> made{};
    for (size_t i = 0; i < kCount; ++i) {
      made[i] = new Creator(rms_deploy::contract::kKinds[i]);  // TensorRT keeps it
    }
    return made;
  }();
  count = static_cast<int32_t>(kCount);
  return creators.data();
}

RMS_DEPLOY_EXPORT void setLoggerFinder(void* finder) { rms_deploy::trt::set_logger_finder(finder); }
