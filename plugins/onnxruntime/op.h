// The ops as ONNX Runtime knows them: one CustomOp per execution provider, op and combination of types. Several ops of
// one name become one schema whose type constraints are the union, and the kernel is chosen by the types of the node.
#pragma once

#include "onnxruntime/provider.h"

namespace rms_deploy::ort {

struct Op : CustomOp {
  Op(const Api& table, const Provider& where, const Kind& op_kind, const Types& op_types);

  const Api& api;
  const Provider& provider;
  Kind kind;
  Types types;
};

}  // namespace rms_deploy::ort
