from __future__ import annotations

import json

import onnx
import onnx_ir as ir
import pytest

from rms_deploy.errors import ModelFileError
from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.inspect import inspect

NORM = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, scale)"


def named(model, **places):
    """Give the nodes that produce these values the names of the places."""
    for node in model.graph.node:
        node.name = places.get(node.output[0], f"node_{node.output[0]}")
    return model


def test_near_misses(build):
    model = named(build(NORM, inputs="float[b,s,8] x, float eps"), e="layers.3/Add_2")
    result = inspect(model)
    assert not result.norms
    (miss,) = result.near_misses
    assert str(miss) == "layers.3/Add_2: epsilon is a graph input (eps)"
    assert miss.piece == "epsilon"


def test_norms_inside_bodies_and_functions(build):
    inner = NORM.replace("y =", "y1 =")
    body = f"""
        y = If (c) <then_branch = t () => (float[b,s,8] y1) {{ {inner} }},
                    else_branch = f () => (float[b,s,8] y2) {{ y2 = Neg (x) }}>
    """
    assert len(inspect(build(body, inputs="float[b,s,8] x, bool c")).norms) == 1


def test_nothing_is_changed(build):
    model = ir.from_proto(build(NORM))
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    inspect(model)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_counts_and_json(build, tmp_path):
    onnx.save(build(NORM), tmp_path / "m.onnx")
    result = inspect(tmp_path / "m.onnx")
    assert result.count() == {"decomposed RMSNorm": 1}
    data = json.loads(json.dumps(result.to_dict()))
    assert (data["norm_count"], data["form_count"], data["near_miss_count"]) == (1, {"decomposed RMSNorm": 1}, 0)
    assert (data["norms"][0]["n"], data["near_misses"]) == (8, [])


def test_a_missing_file(tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        inspect(tmp_path / "m.onnx")


@pytest.mark.parametrize("as_ir", [False, True], ids=["proto", "onnx-ir"])
@pytest.mark.parametrize("nodes_too", [False, True], ids=["import", "import and nodes"])
def test_the_alias_of_the_default_domain(build, as_ir, nodes_too):
    """`ai.onnx` and the empty string name one domain, also in a model that comes from no file."""
    proto = build(NORM)
    proto.opset_import[0].domain = "ai.onnx"
    for node in proto.graph.node:
        node.domain = "ai.onnx" if nodes_too else ""
    model = ir.from_proto(proto) if as_ir else proto
    assert len(inspect(model).norms) == 1
    fused = fuse(model)
    assert len(fused.norms) == 1
    assert fused.model.opset_imports[""] == 18
    if as_ir:
        assert "" not in model.opset_imports  # what is given is not changed
