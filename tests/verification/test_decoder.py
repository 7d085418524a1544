"""A whole decoder: its fused twin is equal, and each small mistake in one norm is found, whatever the dtype.

In float16 the tolerance for rounding, 0.03, hides the smaller of them: only the comparison in float64 finds those.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from rms_deploy import export
from rms_deploy.fusion.fuse import fuse
from rms_deploy.onnx_model.file import load_model, save_model
from rms_deploy.ops.functions import attach_functions
from rms_deploy.ops.nodes import norm_nodes
from rms_deploy.verification.verify import verify

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def decoders(tmp_path_factory) -> dict[tuple[str, str], tuple[Path, Path]]:
    """The decomposed and the fused file, by exporter and dtype, written when first asked for."""
    folder = tmp_path_factory.mktemp("decoders")

    class Decoders(dict[tuple[str, str], tuple[Path, Path]]):
        def __missing__(self, key: tuple[str, str]) -> tuple[Path, Path]:
            plain, fused = (folder / f"{'-'.join(key)}{kind}.onnx" for kind in ("", "-fused"))
            exporter: Any = key[0]
            export("llama-tiny", plain, norm="decomposed", exporter=exporter, dtype=key[1])
            fuse(plain, fused)
            return self.setdefault(key, (plain, fused))

    return Decoders()


@pytest.mark.parametrize("dtype", ["float32", "float16", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("exporter", ["dynamo", "legacy"])
def test_the_fused_twin_is_the_same_formula(decoders, exporter, dtype):
    result = verify(*decoders[exporter, dtype])
    assert result.passed, result.worst
    assert result.formula == "both in float64, unoptimised, norms inlined"
    assert result.formula_difference < 1e-14, "nothing but float64's own rounding"


def wrong_epsilon(norms: list[ir.Node]) -> None:
    last = norms[-1].attributes
    last["epsilon"] = ir.AttrFloat32("epsilon", last.get_float("epsilon", 0.0) * 1.1)


def wrong_scale_element(norms: list[ir.Node]) -> None:
    scale = np.array(_scale(norms[-1]).numpy())
    scale[5] *= 1.1
    norms[-1].inputs[-1].const_value = ir.tensor(scale, name=norms[-1].inputs[-1].name)


def swapped_scales(norms: list[ir.Node]) -> None:
    first, second = norms[0].inputs[-1], norms[-1].inputs[-1]
    norms[0].replace_input_with(len(norms[0].inputs) - 1, second)
    norms[-1].replace_input_with(len(norms[-1].inputs) - 1, first)


def dropped_norm(norms: list[ir.Node]) -> None:
    node = norms[0]
    node.outputs[0].replace_all_uses_with(node.inputs[0])


def _scale(node: ir.Node) -> ir.TensorProtocol:
    tensor = node.inputs[-1].const_value
    assert tensor is not None
    return tensor


MUTATIONS = [wrong_epsilon, wrong_scale_element, swapped_scales, dropped_norm]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("mutate", MUTATIONS)
def test_a_mistake_in_one_norm_is_found(decoders, tmp_path, mutate, dtype):
    plain, fused = decoders["dynamo", dtype]
    model = load_model(fused)
    mutate(list(norm_nodes(model)))
    attach_functions(model)
    save_model(model, tmp_path / "wrong.onnx")
    result = verify(plain, tmp_path / "wrong.onnx")
    assert not result.passed
    assert result.formula_difference > 2 * result.formula_tolerance
