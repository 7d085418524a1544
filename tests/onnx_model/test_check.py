"""A malformed model is one line that says where; what ONNX Runtime loads passes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import onnx.helper as oh
import onnx.numpy_helper as nh
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.errors import ModelFileError
from rms_deploy.onnx_model import file
from rms_deploy.onnx_model.file import load_model, open_model, save_model

A = onnx.AttributeProto
FLOAT = onnx.TensorProto.FLOAT
node = oh.make_node


def model(
    nodes: list[onnx.NodeProto],
    *weights: onnx.TensorProto,
    opset: int = 18,
    functions: tuple[onnx.FunctionProto, ...] = (),
) -> onnx.ModelProto:
    x, y = (oh.make_tensor_value_info(name, FLOAT, [2, 8]) for name in "xy")
    graph = oh.make_graph(nodes, "g", [x], [y], weights)
    imports = [oh.make_opsetid(*pair) for pair in (("", opset), ("com.microsoft", 1), ("l", 1), ("rms_deploy", 1))]
    return oh.make_model(graph, opset_imports=imports, functions=functions, ir_version=10)


def function(name: str, nodes: list[onnx.NodeProto], inputs: str = "a", outputs: str = "b") -> onnx.FunctionProto:
    return oh.make_function("l", name, list(inputs), list(outputs), nodes, [oh.make_opsetid("", 18)])


def tensor(**fields: object) -> onnx.TensorProto:
    return onnx.TensorProto(**{"name": "w", "data_type": FLOAT, "dims": [8], **fields})


def call(name: str, inputs: str = "x", outputs: str = "y") -> onnx.NodeProto:
    return node(name, list(inputs), list(outputs), domain="l")


ADD = node("Add", ["x", "w"], ["y"], name="add")
RELU = node("Relu", ["a"], ["b"])


def untyped() -> onnx.ModelProto:
    broken = model([node("Softmax", ["x"], ["y"], axis=1)])
    broken.graph.node[0].attribute[0].ClearField("type")
    return broken


def doubly_given() -> onnx.ModelProto:
    broken = model([node("Softmax", ["x"], ["y"], axis=1)])
    broken.graph.node[0].attribute[0].ref_attr_name = "axis"
    return broken


def typed(elem_type: int) -> onnx.ModelProto:
    broken = model([node("Relu", ["x"], ["y"])])
    broken.graph.input[0].type.tensor_type.elem_type = elem_type
    return broken


def of_type(text: str) -> onnx.ModelProto:
    broken = model([node("Relu", ["x"], ["y"])])
    getattr(broken.graph.input[0].type, text).SetInParent()
    return broken


def replaced(old: bytes, new: bytes, whole: onnx.ModelProto) -> onnx.ModelProto:
    broken = onnx.ModelProto()
    broken.ParseFromString(whole.SerializeToString().replace(old, new))
    return broken


def documented() -> onnx.ModelProto:
    whole = model([node("Relu", ["x"], ["y"], name="named", doc_string="documented")])
    whole.graph.node[0].metadata_props.add(key="metakey", value="metavalue")
    whole.producer_name, whole.graph.name = "producer", "graphname"
    whole.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "dimension"
    return whole


def doubled(times: int) -> onnx.ModelProto:
    functions = [function("F0", [RELU])]
    for i in range(times):
        calls = [node(f"F{i}", ["a"], ["t"], domain="l"), node(f"F{i}", ["t"], ["b"], domain="l")]
        functions.append(function(f"F{i + 1}", calls))
        functions[-1].opset_import.add(domain="l", version=1)
    return model([call(f"F{times}")], functions=tuple(functions))


def nested(depth: int) -> onnx.ModelProto:
    value = oh.make_tensor_value_info("y", FLOAT, [2, 8])
    flat = body = oh.make_graph([node("Relu", ["x"], ["y"])], "b", [], [value])
    for _ in range(depth):
        body = oh.make_graph([node("If", ["c"], ["y"], then_branch=body, else_branch=flat)], "b", [], [value])
    return model(list(body.node), nh.from_array(np.array(True), "c"))


def sparse(indices: list[int], dims: list[int], count: int = 2) -> onnx.ModelProto:
    broken = model([ADD])
    values = nh.from_array(np.ones(count, np.float32), "w")
    broken.graph.sparse_initializer.add(values=values, indices=nh.from_array(np.array(indices)), dims=dims)
    return broken


MALFORMED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "no output": (
        lambda: model([node("RMSNormalization", ["x", "w"], [], name="norm"), ADD], opset=23),
        "norm: RMSNormalization has no output; needs 1",
    ),
    "one input": (lambda: model([node("Add", ["x"], ["y"])]), "y: Add has 1 input; needs 2"),
    "three inputs": (lambda: model([node("Add", [*"xxx"], ["y"])]), "y: Add has 3 inputs; takes at most 2"),
    "an input left out": (lambda: model([node("Add", ["x", ""], ["y"])]), "y: Add: input 2 is left out; it is needed"),
    "an output left out": (lambda: model([node("Add", ["x", "x"], [""], name="n")]), "n: Add: output 1 is left out"),
    "two outputs": (lambda: model([node("Relu", ["x"], ["y", "z"])]), "y: Relu has 2 outputs; takes at most 1"),
    "ours": (lambda: model([node("RMSNorm", ["x"], ["y"], domain="rms_deploy")]), "y: RMSNorm has 1 input; needs 2"),
    "a plugin": (
        lambda: model([node("RMSNorm", [*"xx"], [*"yz"], domain="trt.plugins", plugin_namespace="rms_deploy")]),
        "y: RMSNorm has 2 outputs; takes at most 1",
    ),
    "ONNX Runtime's": (
        lambda: model([node("SkipSimplifiedLayerNormalization", ["x", "x"], ["y"], domain="com.microsoft")]),
        "y: SkipSimplifiedLayerNormalization has 2 inputs; needs 3",
    ),
    "of a newer opset": (lambda: model([node("Add", [], ["y"])], opset=99), "y: Add has no input; needs 1"),
    "an attribute's type": (
        lambda: model([node("Softmax", ["x"], ["y"], axis="1")]),
        "y: Softmax: attribute axis is STRING; needs INT",
    ),
    "an attribute without type": (untyped, "y: Softmax: attribute axis is of no type; needs INT"),
    "an attribute with a value and a reference": (
        doubly_given,
        "y: attribute axis has a value, and refers to an attribute of a function besides",
    ),
    "a cast to no type": (lambda: model([node("Cast", ["x"], ["y"], to=-1)]), "y: Cast: to is -1, no element type"),
    "scaled in no type": (
        lambda: model(
            [node("RMSNorm", ["x", "w"], ["y"], domain="rms_deploy", scale_type=99)], tensor(float_data=[1] * 8)
        ),
        "y: RMSNorm: scale_type is 99, no element type",
    ),
    "no such attribute": (lambda: model([node("Relu", ["x"], ["y"], q=1)]), "y: Relu has no attribute q"),
    "an attribute is missing": (
        lambda: model([node("Concat", ["x"], ["y"])]),
        "y: Concat has no attribute axis; it is",
    ),
    "no operator": (lambda: model([node("", ["x"], ["y"])]), "y: has no operator"),
    "opset 0": (lambda: model([node("Relu", ["x"], ["y"])], opset=0), "opset 0 of domain '' does not exist"),
    "opset -1": (lambda: model([node("Relu", ["x"], ["y"])], opset=-1), "opset -1 of domain '' does not exist"),
    "a large opset": (
        lambda: model([node("Relu", ["x"], ["y"])], opset=2**40),
        "opset 1099511627776 of domain '' does",
    ),
    "defined twice": (
        lambda: model([node("Relu", ["x"], ["y"]), node("Abs", ["x"], ["y"])]),
        "y: its output is defined",
    ),
    "an input is defined": (lambda: model([node("Relu", ["x"], ["x"])]), "x: its output is defined twice"),
    "an unknown input": (lambda: model([node("Add", ["x", "q"], ["y"])]), "y: input q is defined nowhere"),
    "an unknown output": (lambda: model([node("Relu", ["x"], ["z"])]), "output 'y' is computed nowhere"),
    "in a circle": (
        lambda: model([node("Add", ["x", "t"], ["y"]), node("Relu", ["y"], ["t"])]),
        "y: its input depends on its own output",
    ),
    "in a circle through a branch": (
        lambda: onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 18]> g (float[2] x, bool c) => (float[2] y) '
            "{ y = If (c) <then_branch = a () => (float[2] p) { p = Relu(q) }, "
            "else_branch = b () => (float[2] r) { r = Relu(x) }>  q = Abs(y) }"
        ),
        "y: its input depends on its own output",
    ),
    "a function calls itself": (
        lambda: model([call("F")], functions=(function("F", [node("F", ["a"], ["b"], domain="l")]),)),
        "local functions call themselves",
    ),
    "functions call each other": (
        lambda: model(
            [call("F")],
            functions=(function("F", [call("G", "a", "b")]), function("G", [call("F", "a", "b")])),
        ),
        "local functions call themselves",
    ),
    "functions double": (lambda: doubled(25), "its local functions, written out, are more than 1000000 nodes"),
    "a function twice": (
        lambda: model([call("F")], functions=(function("F", [RELU]), function("F", [RELU]))),
        "function F is defined twice",
    ),
    "a function's input": (
        lambda: model([call("F", "xx")], functions=(function("F", [RELU]),)),
        "y: F has 2 inputs; takes at most 1",
    ),
    "a function's output": (
        lambda: model([call("F")], functions=(function("F", [RELU], outputs="c"),)),
        "function F: output c is computed nowhere",
    ),
    "a node in a function": (
        lambda: model([call("F")], functions=(function("F", [node("Relu", [], ["b"])]),)),
        "function F: b: Relu has no input; needs 1",
    ),
    "short raw data": (lambda: model([ADD], tensor(raw_data=b"1234")), "w: has 4 bytes of data; FLOAT[8] needs 32"),
    "short data": (
        lambda: model([ADD], tensor(float_data=[1.0])),
        "w: has 1 numbers in float_data; FLOAT[8] needs 8",
    ),
    "no data": (lambda: model([ADD], tensor()), "w: has 0 numbers in float_data; FLOAT[8] needs 8"),
    "data of another type": (
        lambda: model([ADD], tensor(int32_data=[1] * 8)),
        "w: holds int32_data; FLOAT has its data in float_data",
    ),
    "a constant": (
        lambda: model([node("Constant", [], ["w"], value=tensor(raw_data=b"1"), name="c"), ADD]),
        "c: w: has 1 bytes of data; FLOAT[8] needs 32",
    ),
    "an element type": (lambda: model([ADD], tensor(data_type=99)), "w: element type 99 is unknown"),
    "no element type": (lambda: model([ADD], tensor(data_type=0)), "w: element type 0 is unknown"),
    "raw strings": (lambda: model([ADD], tensor(data_type=8, raw_data=b"1" * 8)), "w: strings cannot be raw data"),
    "a negative dim": (lambda: model([ADD], tensor(dims=[-8], float_data=[1.0] * 8)), "w: has a negative dim, -8"),
    "a large dim": (lambda: model([ADD], tensor(dims=[2**62])), "w: dims 4611686018427387904 are more than memory"),
    "large dims and none": (lambda: model([ADD], tensor(dims=[0, 2**62])), "are more than memory can hold"),
    "many dims": (lambda: model([ADD], tensor(dims=[1] * 65, float_data=[1.0])), "w: has 65 dims; at most 64 are read"),
    "a declared type": (lambda: typed(99), "x: element type 99 is unknown"),
    "no declared type": (lambda: typed(0), "x: element type 0 is unknown"),
    "a map": (lambda: of_type("map_type"), "x: map type is not supported; cut that part off"),
    "an opaque type": (lambda: of_type("opaque_type"), "x: opaque type is not supported; cut that part off"),
    "a sequence of nothing": (lambda: of_type("sequence_type"), "x: its sequence type is one of nothing"),
    "a sparse index": (lambda: sparse([0, 9], [8]), "w: an index is outside its dims"),
    "a negative sparse index": (lambda: sparse([0, -1], [8]), "w: an index is outside its dims"),
    "sparse parts": (lambda: sparse([0, 1, 2], [8]), "w: its [2] values and [3] indices do not fit each other"),
    "large and sparse": (
        lambda: sparse([0, 1], [2**40]),
        "its sparse tensors of 24 bytes have 4398046511104 bytes as dense ones",
    ),
    "a sparse attribute": (
        lambda: model(
            [
                node("Op", [], ["w"], name="op", domain="l", s=sparse([0, 1], [8]).graph.sparse_initializer[0]),
                ADD,
            ]
        ),
        "op: sparse attribute s of Op is not supported",
    ),
    **{
        f"{name} in latin-1": (lambda name=name: replaced(name, b"\xff" * len(name), documented()), "not UTF-8")
        for name in (
            *(b"named", b"documented", b"metakey", b"metavalue"),
            *(b"producer", b"graphname", b"dimension", b"Relu"),
        )
    },
    "a value in latin-1": (
        lambda: replaced(b"vv", b"\xff\xfe", model([node("Relu", ["x"], ["vv"]), node("Relu", ["vv"], ["y"])])),
        "the name of a node or of a value is not UTF-8",
    ),
    "strings in latin-1": (
        lambda: replaced(b"qq", b"\xff\xfe", model([node("Op", ["x"], ["y"], domain="l", s=["qq"])])),
        "y: attribute s holds text that is not UTF-8",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(tmp_path: Path, name: str) -> None:
    make, message = MALFORMED[name]
    proto = make()
    for given in (proto, tmp_path / "m.onnx"):
        if not isinstance(given, onnx.ModelProto):
            given.write_bytes(proto.SerializeToString())
        with pytest.raises(ModelFileError) as caught:
            open_model(given)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
        str(caught.value).encode()


@pytest.mark.parametrize(
    "name",
    [
        *("no output", "one input", "three inputs", "an input left out", "an output left out", "two outputs", "ours"),
        *(
            "a cast to no type",
            "a plugin",
            "ONNX Runtime's",
            "of a newer opset",
            "an attribute's type",
            "no such attribute",
        ),
        *("an attribute is missing", "opset 0", "opset -1", "a large opset", "in a circle", "a function calls itself"),
        *("functions call each other", "functions double", "a function's input", "a node in a function"),
        *("short raw data", "short data", "no data", "data of another type", "a constant", "a negative dim"),
    ],
)
def test_malformed_in_memory(name: str) -> None:
    """What can be wrong in a model that onnx-ir has read."""
    make, message = MALFORMED[name]
    with pytest.raises(ModelFileError) as caught:
        open_model(ir.from_proto(make()))
    assert message.split(": ", message.count("function F") + message.count("c: "))[-1] in str(caught.value)
    assert "\n" not in str(caught.value)


VALID: dict[str, Callable[[], onnx.ModelProto]] = {
    "one name for two nodes": lambda: model(
        [
            node("Relu", ["x"], ["t"], name="n"),
            node("Relu", ["t"], ["u"], name="n"),
            node("Abs", ["u"], ["y"], name="n_1"),
        ]
    ),
    "nodes in another order": lambda: model([node("Add", ["x", "t"], ["y"]), node("Relu", ["x"], ["t"])]),
    "an initialiser twice": lambda: model([ADD], *[tensor(float_data=[1.0] * 8)] * 2),
    "the last input left out": lambda: model([node("Clip", ["x", "", ""], ["y"])]),
    "the last output left out": lambda: model([node("Dropout", ["x"], ["y", ""])]),
    "an attribute of a runtime": lambda: model([node("Relu", ["x"], ["y"], __own=1)]),
    "a newer opset": lambda: model([node("Relu", ["x"], ["y"], new=1)], opset=99),
    "a domain of others": lambda: model([node("Op", [], ["y"], domain="l", any=[1])]),
    "a domain that is not imported": lambda: model([node("Op", ["x"], ["y"], domain="q")]),
    "a function with fewer inputs": lambda: model([call("F")], functions=(function("F", [RELU], inputs="ac"),)),
    "functions that double 18 times": lambda: doubled(18),
    "a type as an attribute": lambda: model(
        [node("Optional", [], ["o"], type=oh.make_tensor_type_proto(FLOAT, [2])), node("Relu", ["x"], ["y"])]
    ),
    "a sparse initialiser": lambda: sparse([0, 7], [8]),
    "a sparse initialiser in two dims": lambda: sparse([[0, 1], [1, 7]], [2, 8]),
    "nested 10 deep": lambda: nested(10),
    "no dims": lambda: model([ADD], tensor(dims=[], float_data=[1.0])),
    "packed": lambda: model(
        [ADD, node("Identity", ["v"], ["u"])],
        tensor(float_data=[1.0] * 8),
        tensor(name="v", data_type=onnx.TensorProto.INT4, dims=[3], int32_data=[1, 2]),
    ),
}


@pytest.mark.parametrize("name", VALID)
def test_valid(tmp_path: Path, name: str) -> None:
    proto = VALID[name]()
    before = proto.SerializeToString()
    save_model(open_model(proto), tmp_path / "m.onnx")
    assert proto.SerializeToString() == before
    assert load_model(tmp_path / "m.onnx")
    assert open_model(ir.load(tmp_path / "m.onnx"))


def test_nodes_are_put_in_order() -> None:
    onnx.checker.check_model(ir.to_proto(open_model(VALID["nodes in another order"]())), full_check=True)


def test_nodes_get_names_of_their_own() -> None:
    proto = VALID["one name for two nodes"]()
    for given in (proto, ir.from_proto(proto)):
        assert [one.name for one in open_model(given).graph] == ["n", "n_2", "n_1"]


def test_domains_are_imported() -> None:
    proto = VALID["a domain that is not imported"]()
    del proto.opset_import[:]
    proto.opset_import.add(domain="ai.onnx.ml", version=3)
    proto.graph.node.insert(0, node("Relu", ["x"], ["t"]))
    opened = open_model(proto)
    assert opened.opset_imports == {"ai.onnx.ml": 3, "q": 1, "": onnx.defs.onnx_opset_version()}


@pytest.mark.parametrize("version", [0, -1, -(2**63)])
def test_versions_of_other_domains(version: int) -> None:
    proto = model([node("Scaler", ["x"], ["t"], domain="ai.onnx.ml"), node("Relu", ["x"], ["y"])])
    proto.opset_import.add(domain="ai.onnx.ml", version=version)
    assert open_model(proto).opset_imports["ai.onnx.ml"] == version


def test_sparse_tensors_are_read_as_dense_ones() -> None:
    dense = open_model(sparse([[0, 1], [1, 7]], [2, 8])).graph.initializers["w"].const_value
    assert dense is not None
    assert [list(index) for index in np.argwhere(dense.numpy())] == [[0, 1], [1, 7]]


def test_a_negative_dim_of_a_value_is_unknown() -> None:
    proto = model([node("Relu", ["x"], ["y"])])
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -2
    shape = open_model(proto).graph.inputs[0].shape
    assert shape is not None
    assert [isinstance(dim, int) for dim in shape] == [False, True]


def test_an_invalid_model_of_ours_is_not_written(tmp_path: Path) -> None:
    broken = open_model(model([node("Relu", ["x"], ["y"])]))
    broken.opset_imports.pop("")
    with pytest.raises(RuntimeError, match="is not valid, please report this: the graph imports no opset of domain ''"):
        save_model(broken, tmp_path / "m.onnx")
    broken = open_model(model([node("Relu", ["x"], ["y"])]))
    broken.graph.node(0).op_type = "Add"
    with pytest.raises(RuntimeError, match="y: Add has 1 input; needs 2"):
        save_model(broken, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_over_two_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.onnx").write_bytes(b"1" * 1000)
    monkeypatch.setattr(file, "_MESSAGE_LIMIT", 999)
    with pytest.raises(ModelFileError, match="has 1000 bytes, and an ONNX file at most 999; save the model with ext"):
        load_model(tmp_path / "m.onnx")


def test_graphs_nested_deeper_than_protobuf_reads(tmp_path: Path) -> None:
    def part(number: int, content: bytes) -> bytes:
        size = len(content)
        return bytes([number << 3 | 2, size & 127 | 128, size >> 7 & 127 | 128, size >> 14]) + content

    body = b""
    for _ in range(40):
        body = part(1, part(5, part(6, body)))  # a node's attribute's graph
    whole = model([]).SerializeToString() + part(7, body)
    (tmp_path / "m.onnx").write_bytes(whole)
    # protobuf before 7 does not say why it cannot read a file
    with pytest.raises(ModelFileError, match=r"its graphs are nested deeper than protobuf reads|or is truncated"):
        load_model(tmp_path / "m.onnx")


def test_a_device() -> None:
    with pytest.raises(ModelFileError, match="is a device; give an ONNX file"):
        load_model("/dev/zero")


MODELS_OF_ONNX = """
import warnings
from pathlib import Path

warnings.simplefilter("ignore")  # numpy's, from the making of onnx's cases
import onnx.backend.test
from onnx.backend.test.case.node import collect_testcases
from rms_deploy.onnx_model.file import load_model, open_model

cases = [case.model for case in collect_testcases(None) if case.model is not None]
files = sorted((Path(onnx.backend.test.__file__).parent / "data").rglob("*.onnx"))
for case in cases:
    open_model(case)
for path in files:
    load_model(path)
print(len(cases), len(files))
"""
"""In a process of its own, as onnx makes each case once in a process."""


def test_the_models_of_onnx_pass() -> None:
    """Every model of onnx's own tests: every operator, every type, sequences, optionals, control flow."""
    done = subprocess.run([sys.executable, "-c", MODELS_OF_ONNX], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cases, files = map(int, done.stdout.split())
    assert cases > 1000
    assert files > 100
