"""Small models, as `to_half` and the rules take them."""

from __future__ import annotations

import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.conversion.prepare import prepare


@pytest.fixture
def parse():
    """A model of text: its body, inputs, outputs and initialisers."""

    def parsed(body, inputs="float[b,8] x", outputs="float[b,8] y", constants="", opset=18):
        header = f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1, "local" : 1, "rms_deploy" : 1]>'
        text = f"{header} g ({inputs}) => ({outputs}) <{constants}> {{ {body} }}"
        return ir.from_proto(onnx.parser.parse_model(text))

    return parsed


@pytest.fixture
def prepared(parse):
    def made(*args, **kwargs):
        model = parse(*args, **kwargs)
        prepare(model)
        return model

    return made
