"""Every built-in model all the way: exported, its norms found and fused, and run with our library and without."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

from rms_deploy import export, fuse
from rms_deploy.errors import InputError
from rms_deploy.exporter.model_source import Source, resolve
from rms_deploy.models import MODELS
from rms_deploy.nn import PartialRMSNorm, RMSNorm
from rms_deploy.runtime import onnxruntime_session as runtime

TINY = [name for name in MODELS if name.endswith("-tiny")]
LEGACY = [name for name in TINY if name != "gru-tiny"]  # that has no Scan


def calls_of_norms(source: Source) -> int:
    """How many norms one pass through the module takes."""
    calls: list[nn.Module] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: calls.append(module))
        for module in source.module.modules()
        if isinstance(module, RMSNorm)
    ]
    source.module(*source.inputs)
    for hook in hooks:
        hook.remove()
    return len(calls)


def expected_norms(name: str, source: Source) -> int:
    """Of a Scan, each norm is in the graph once, however often it runs."""
    if name.startswith("gru-tiny"):
        return sum(isinstance(module, RMSNorm) for module in source.module.modules())
    return calls_of_norms(source)


def operators(path: Path) -> Counter[str]:
    """The ops of our domain in the graph and those within."""

    def count(graph: onnx.GraphProto) -> Counter[str]:
        inner = (a.g for node in graph.node for a in node.attribute if a.HasField("g"))
        own = Counter(node.op_type for node in graph.node if node.domain == "rms_deploy")
        return sum(map(count, inner), own)

    return count(onnx.load(path).graph)


def run(path: Path, source: Source, *, library: bool) -> tuple[list[np.ndarray], Counter[str]]:
    """The outputs, and the ops of our domain in the graph that ONNX Runtime made of the file."""
    optimized = path.with_suffix(f".{library}.onnx")
    session = runtime.session(path, library=library, optimized_path=optimized)
    leaves = [leaf.numpy() for leaf in pytree.tree_leaves(source.inputs)]
    feeds = dict(zip((value.name for value in session.get_inputs()), leaves, strict=True))
    return list(runtime.run(session, feeds).values()), operators(optimized)


def assert_equal(actual: list[np.ndarray], source: Source) -> None:
    """Two layers of about 10 roundings each, and sums over up to 192 terms, of values as large as the largest."""
    result = source.module(*source.inputs)
    expected = result if isinstance(result, tuple) else (result,)
    assert len(actual) == len(expected) == len(source.output_names)
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == tuple(e.shape)
        assert np.abs(a - e.double().numpy()).max() <= 40 * 2.0**-23 * float(e.abs().max())


@torch.no_grad()
def check(name: str, tmp_path: Path, norms: int | None = None, model_norm: str | None = None, **options: str) -> None:
    source = resolve(name, model_norm=model_norm)
    norms = expected_norms(name, source) if norms is None else norms
    plain, fused = tmp_path / "plain.onnx", tmp_path / "fused.onnx"
    export(name, plain, model_norm=model_norm, **options)
    result = fuse(plain, fused)
    assert not [miss for miss in result.near_misses if miss.left == "norm"]
    assert len(result.norms) + len(result.fused_before) == norms
    with_library, ops = run(fused, source, library=True)
    assert ops.total() == norms
    partial = sum(isinstance(module, PartialRMSNorm) for module in source.module.modules())
    assert set(ops) <= ({"PartialRMSNorm"} if partial else {"RMSNorm", "AddRMSNorm", "SiluGateRMSNorm", "RMSNormShift"})
    without, ops = run(fused, source, library=False)
    assert not ops
    assert_equal(with_library, source)
    assert_equal(without, source)


@pytest.mark.parametrize("name", LEGACY)
def test_legacy_exporter(name, tmp_path) -> None:
    check(name, tmp_path, norm="decomposed", exporter="legacy")


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["fused", "decomposed"])
@pytest.mark.parametrize("name", TINY)
def test_dynamo_exporter(name, norm, tmp_path) -> None:
    check(name, tmp_path, norm=norm)


@pytest.mark.parametrize(
    ("name", "model_norm"),
    [
        (name, model_norm)
        for name in LEGACY
        for model_norm in ("prmsnorm:0.25", "layernorm", "none")
        # a partial mean over channels is not found in primitives yet: below, it is exported as our op
        if (name, model_norm) != ("convnet-tiny", "prmsnorm:0.25")
    ],
)
def test_twins(name, model_norm, tmp_path) -> None:
    norms = None if model_norm.startswith("prmsnorm") else 0
    check(name, tmp_path, norms, model_norm, norm="decomposed", exporter="legacy")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "model_norm"),
    [
        *(("gru-tiny", model_norm) for model_norm in ("prmsnorm:0.25", "layernorm", "none")),
        ("convnet-tiny", "prmsnorm:0.25"),
    ],
)
def test_twins_by_the_dynamo_exporter(name, model_norm, tmp_path) -> None:
    check(name, tmp_path, None if model_norm.startswith("prmsnorm") else 0, model_norm, norm="fused")


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "sequence"), [(3, 9), (1, 1)])
@torch.no_grad()
def test_a_scan_takes_every_length(batch, sequence, tmp_path) -> None:
    export("gru-tiny", tmp_path / "gru.onnx")
    module = resolve("gru-tiny").module
    ids = torch.randint(256, (batch, sequence), generator=torch.Generator().manual_seed(4))
    (logits,) = runtime.run(runtime.session(tmp_path / "gru.onnx"), {"input_ids": ids.numpy()}).values()
    expected = module(ids)
    # At most 9 steps of 2 layers with about 8 roundings each, that the gates damp; sums over 48 terms
    assert np.abs(logits - expected.double().numpy()).max() <= 80 * 2.0**-23 * float(expected.abs().max())
    operators = [node.op_type for node in onnx.load(tmp_path / "gru.onnx").graph.node]
    assert operators.count("Scan") == 2


def test_the_legacy_exporter_says_what_it_cannot_write() -> None:
    with pytest.raises(InputError, match=r"GRU: the legacy exporter writes no Scan; .* or the model gru-unrolled"):
        export("gru-tiny", norm="decomposed", exporter="legacy")
