"""A near miss names its node, and the module that it came from."""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.fusion.near_miss import near_miss


def test_a_near_miss_is_one_line():
    node = ir.node("Add", [], name="/layers.3/norm/Add_2")
    miss = near_miss("epsilon", node, "epsilon is a graph input (eps)")
    assert str(miss) == "/layers.3/norm/Add_2: epsilon is a graph input (eps)"
    assert (miss.piece, miss.place) == ("epsilon", "layers.3/norm")


def test_a_node_without_a_name_is_called_after_its_output():
    node = ir.node("Add", [])
    node.outputs[0].name = "e"
    assert str(near_miss("epsilon", node, "why")) == "e: why"
