"""The ops as onnx schemas, so that onnx's checker and shape inference know them without a function body."""

from __future__ import annotations

import atexit
from functools import partial

import onnx

from rms_deploy.ops.contract import DOMAIN, OPS, TYPE_CONSTRAINTS, VERSION, Op

__all__ = ["register"]

_TYPE_STRINGS = {
    "float32": "tensor(float)",
    "float16": "tensor(float16)",
    "bfloat16": "tensor(bfloat16)",
    "int8": "tensor(int8)",
    "float8e4m3fn": "tensor(float8e4m3fn)",
}
_AttrType = onnx.defs.OpSchema.AttrType
_KINDS = {"int": _AttrType.INT, "ints": _AttrType.INTS, "float": _AttrType.FLOAT}


def register() -> None:
    """Register the schema of each op with onnx. Doing so again changes nothing."""
    for op in OPS.values():
        if not onnx.defs.has(op.name, VERSION, DOMAIN):
            onnx.defs.register_schema(_schema(op))
            # onnx before 1.23 crashes at exit if a schema still holds a Python function then.
            atexit.register(onnx.defs.deregister_schema, op.name, VERSION, DOMAIN)


def _schema(op: Op) -> onnx.defs.OpSchema:
    schema = onnx.defs.OpSchema(
        op.name,
        DOMAIN,
        VERSION,
        doc=op.meaning,
        inputs=[onnx.defs.OpSchema.FormalParameter(name, kind) for name, kind in op.inputs],
        outputs=[onnx.defs.OpSchema.FormalParameter(name, kind) for name, kind in op.outputs],
        type_constraints=[
            (kind, [_TYPE_STRINGS[dtype] for dtype in TYPE_CONSTRAINTS[kind]], "")
            for kind in sorted({kind for _, kind in (*op.inputs, *op.outputs)})
        ],
        attributes=[_attribute(a.name, _KINDS[a.kind], a.default, a.meaning) for a in op.attributes],
    )
    schema.set_type_and_shape_inference_function(partial(_infer, op))
    return schema


def _attribute(name: str, kind: _AttrType, default: object, meaning: str) -> onnx.defs.OpSchema.Attribute:
    if default is None:
        return onnx.defs.OpSchema.Attribute(name, kind, meaning, required=True)
    value = list(default) if isinstance(default, tuple) else default
    return onnx.defs.OpSchema.Attribute(name, onnx.helper.make_attribute(name, value), meaning)


def _infer(op: Op, context: onnx.shape_inference.InferenceContext) -> None:
    """Every output has the shape of X, or of R or Z where X has none; Y has the type of X, and Sum that of R."""
    inputs = [context.get_input_type(i) for i in range(context.get_num_inputs())]
    shaped = inputs[: op.scale_index]
    known = next((i for i in shaped if i is not None and i.tensor_type.HasField("shape")), inputs[0])
    if known is None:
        return
    for index in range(context.get_num_outputs()):
        output = onnx.TypeProto()
        output.CopyFrom(known)
        source = inputs[index]
        if source is not None:
            output.tensor_type.elem_type = source.tensor_type.elem_type
        if op.is_quantized and index == 0:
            dtype = context.get_attribute("output_dtype")
            assert dtype is not None
            output.tensor_type.elem_type = dtype.i
        context.set_output_type(index, output)
