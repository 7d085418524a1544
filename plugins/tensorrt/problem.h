// A norm's tensors, as TensorRT describes them, checked and turned into the kernels' view of them.
#pragma once

#include "node.h"
#include "tensorrt/api.h"

namespace rms_deploy::trt {

// The op's inputs and outputs, in TensorRT's order.
inline constexpr int32_t kX = 0;
inline constexpr int32_t kMostOutputs = 2;
inline constexpr int32_t kOperand = 1;  // R or Z; scale where there is neither

// Whether an input or an output, at its place among all of them, may have the type that it has in `types` beside those
// before it.
bool takes_type_at(const Node& node, int32_t place, const nvinfer1::DataType* types);

// The type of an output.
nvinfer1::DataType output_type(const Node& node, int32_t output, const nvinfer1::DataType* inputs);

// Checks the types of all inputs. Throws Error.
void check_types(const Node& node, const nvinfer1::DataType* inputs);

// Checks the ranks of X, and of R or Z, which is all that is known of shapes when a network is defined. Throws Error.
void check_ranks(const Node& node, const int32_t* ranks);

// Checks the types and shapes of all inputs; a dimension of -1 is not known yet and agrees with any. Throws Error.
void check_tensors(const Node& node, const nvinfer1::PluginTensorDesc* const* inputs);

// The problem without its pointers; types and shapes have been checked. Allocates nothing.
Problem problem_of(const Node& node, const nvinfer1::PluginTensorDesc* inputs);

}  // namespace rms_deploy::trt
