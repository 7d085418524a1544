// A norm's tensors, as TensorRT describes them, checked and turned into the kernels' view of them.
#pragma once

#include "node.h"
#include "tensorrt/api.h"

namespace rms_deploy::trt {

// The op's inputs and outputs, in TensorRT's order.
inline constexpr int32_t kX = 0;
inline constexpr int32_t kOperand = 1;  // R or Z; scale where there is neither
int32_t input_count(const Kind& kind);
int32_t output_count(const Kind& kind);

// Whether X may have this type: one of the contract's, and that of a 16-bit scale_type.
bool takes_type(const Node& node, nvinfer1::DataType type);

// Checks the types of all inputs. Throws Error.
void check_types(const Node& node, const nvinfer1::DataType* inputs);

// Checks the ranks of the inputs, which is all that is known of them when a network is defined. Throws Error.
void check_ranks(const Node& node, const int32_t* ranks);

// Checks the shapes of all inputs; a dimension of -1 is not known yet and agrees with any. Throws Error.
void check_shapes(const Node& node, const nvinfer1::Dims* const* inputs);

// The problem without its pointers; types and shapes have been checked. Allocates nothing.
Problem problem_of(const Node& node, const nvinfer1::PluginTensorDesc* inputs);

}  // namespace rms_deploy::trt
