// The library's two exported functions: TensorRT calls them when it loads the library.
#include <iterator>

#include "tensorrt/creator.h"
#include "tensorrt/log.h"

#define RMS_DEPLOY_EXPORT extern "C" __attribute__((visibility("default")))

RMS_DEPLOY_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  using rms_deploy::Kind;
  using rms_deploy::trt::Creator;
  static Creator norm(Kind::kNorm);
  static Creator partial_norm(Kind::kPartialNorm);
  static Creator add_norm(Kind::kAddNorm);
  static nvinfer1::IPluginCreatorInterface* const creators[] = {&norm, &partial_norm, &add_norm};
  count = static_cast<int32_t>(std::size(creators));
  return creators;
}

RMS_DEPLOY_EXPORT void setLoggerFinder(void* finder) { rms_deploy::trt::set_logger_finder(finder); }
