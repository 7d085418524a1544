"""Our ops in the domain that ONNX Runtime's TensorRT provider takes plugins from, and back."""

from __future__ import annotations

from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.unfuse import unfuse


def test_there_and_back(spelled):
    result = fuse(spelled, target="tensorrt-plugin").model
    (node,) = [node for node in result.graph if node.domain == "trt.plugins"]
    assert (node.attributes["plugin_namespace"].value, node.attributes["plugin_version"].value) == ("rms_deploy", "1")
    assert not result.functions
    assert "rms_deploy" not in result.opset_imports
    assert [n.domain for n in fuse(result).model.graph if "Norm" in n.op_type] == ["rms_deploy"]
    assert len(unfuse(result).norms) == 1
