"""What a pass puts into a model has names of its own, and the scale that stands for none is one."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from rms_deploy.fusion.passes.new_nodes import UNIT_SCALE, NewNodes

CORE = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r)"


def model_with(build, tensor: onnx.TensorProto | None = None, body: str = "y = Exp (x)") -> ir.Model:
    proto = build(body)
    if tensor is not None:
        tensor.name = UNIT_SCALE
        proto.graph.initializer.append(tensor)
    return ir.from_proto(proto)


def scale_of(model: ir.Model) -> ir.Value:
    return NewNodes(model).unit_scale(model.graph[0])


def test_one_for_the_whole_model(build):
    model = model_with(build)
    new = NewNodes(model)
    assert new.unit_scale(model.graph[0]) is new.unit_scale(model.graph[0]) is scale_of(model)
    assert list(model.graph.initializers) == [UNIT_SCALE]


@pytest.mark.parametrize("array", ["float", "float[1]", "int64", "bool"])
def test_one_of_another_value_or_type_is_not_taken(array, build):
    kind, _, shape = array.partition("[")
    kinds = {"float": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64, "bool": onnx.TensorProto.BOOL}
    tensor = onnx.helper.make_tensor("", kinds[kind], [1] if shape else [], [1 if array != "float" else 3])
    value = scale_of(model_with(build, tensor))
    assert value.name == f"{UNIT_SCALE}_"
    assert value.const_value is not None
    assert (value.dtype, value.const_value.numpy()) == (ir.DataType.FLOAT, 1)


def test_one_that_a_body_hides_is_not_taken(build):
    body = f"""c = Constant <value_int = 1> () b = Cast <to = 9> (c)
        y = If (b) <then_branch = t () => (float[b,s,8] {UNIT_SCALE}) {{ {UNIT_SCALE} = Neg (x) }},
                    else_branch = e () => (float[b,s,8] z) {{ z = Exp (x) }}>"""
    model = model_with(build, onnx.helper.make_tensor("", onnx.TensorProto.FLOAT, [], [1]), body)
    assert scale_of(model).name == f"{UNIT_SCALE}_"


def test_one_that_a_caller_replaces_is_not_taken(build):
    proto = build("y = Exp (x)", inputs=f"float[b,s,8] x, float {UNIT_SCALE}")
    proto.graph.initializer.append(onnx.helper.make_tensor(UNIT_SCALE, onnx.TensorProto.FLOAT, [], [1]))
    assert scale_of(ir.from_proto(proto)).name == f"{UNIT_SCALE}_"


def test_a_constant_where_initialisers_are_inputs(build):
    model = model_with(build)
    model.ir_version = 3
    producer = scale_of(model).producer()
    assert producer is not None
    assert producer.op_type == "Constant"
    assert not model.graph.initializers


def test_what_takes_the_place_of_a_node_has_its_name_and_notes(build):
    model = model_with(build, body="val_0 = Neg (x) y = Exp (val_0)")
    old = model.graph[1]
    old.name, old.outputs[0].doc_string = "old", "said"
    old.outputs[0].meta["quant_parameter_tensor_names"] = {"SCALE_TENSOR": "s"}
    first = ir.node("Abs", [model.graph.inputs[0]], name="old_x")
    last = ir.node("Exp", [first.outputs[0]], name="old")
    NewNodes(model).replace(old, [first, last], [last.outputs[0]])
    assert [node.name for node in model.graph][1:] == ["old_x", "old"]
    assert (last.outputs[0].name, last.outputs[0].doc_string) == ("y", "said")
    assert first.outputs[0].name != "val_0"
    assert ir.to_proto(model).graph.quantization_annotation[0].tensor_name == "y"


def test_before_a_node(build):
    model = model_with(build, body=f"{CORE} y = Identity (n)")
    value = NewNodes(model).before(model.graph[0], ir.node("Neg", [model.graph.inputs[0]], name="q"))
    assert model.graph[0].outputs[0] is value
