"""Norms through the plugin object and the CUDA kernels against float64: executed on the CPU, always; and on the GPU,
where there is one. Each enqueue is captured into a CUDA graph.

On a GPU also: compute-sanitizer --tool memcheck python -m pytest -m gpu tests/plugins/tensorrt/test_norms.py
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from ..kernels.cuda import cases, general_cases
from ..kernels.cuda.compiling import compiled_for_cpu, compiled_for_gpu, skip_without_gpu
from ..kernels.cuda.driver import Kernels
from .networks import plugin_sources

pytestmark = pytest.mark.slow

PLUGIN = [*plugin_sources(), Path(__file__).parent / "host" / "entry.cpp", '-DRMS_DEPLOY_KERNELS="test"']


class Plugin(Kernels):
    """The plugin, in the place of the kernels that it wraps."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        inner = self.library
        self.library = SimpleNamespace(run=inner.run_plugin, find_tactics=inner.find_tactics, text_of=inner.text_of)


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory):
    return compiled_for_cpu(tmp_path_factory.mktemp("plugin") / "on_cpu.so", *PLUGIN)


@pytest.fixture(scope="module")
def on_gpu(tmp_path_factory, nvcc):
    skip_without_gpu()
    library = tmp_path_factory.mktemp("plugin") / "on_gpu.so"
    return compiled_for_gpu(library, nvcc, "native", *PLUGIN)


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def plugin(request):
    return Plugin(request.getfixturevalue(f"on_{request.param}"))


@pytest.mark.parametrize("n", [7, 128, 1024])
@pytest.mark.parametrize("axis", [-1, 1])
def test_every_op_in_each_order_of_rounding(plugin, types, axis, n):
    shape = (3, n) if axis == -1 else (3, n, 5)
    x, r = (cases.samples(shape, types[0], seed) for seed in (0, 1))
    scale = cases.weights(n, types[1])
    epsilons = {"epsilon": 0.125, "rms_epsilon": 0.25, "rms_min": 1.5}
    for order, is_reciprocal in ((False, False), (True, False), (True, True)):
        if is_reciprocal and types[0] == "float32":
            continue
        for tactic in [0, *(plugin.tactics(types[0], 3, n) if axis == -1 else [])]:
            options = {"axis": axis, "round_before_scale": order and types[0] != "float32", "tactic": tactic}
            options["round_reciprocal"] = is_reciprocal
            cases.check(plugin, x, scale, **options)
            cases.check(plugin, x, cases.weights(1, types[1]), **options, **epsilons)
            cases.check(plugin, x, scale, residual=r, **options)
            cases.check(plugin, x, scale, partial_size=max(1, n // 3), **options)


@pytest.mark.parametrize("n", [7, 128, 1111, 16400])
@pytest.mark.parametrize("gates_first", [False, True], ids=["behind", "before"])
def test_a_gate(plugin, types, round_before_scale, gates_first, n):
    x, z = cases.samples((6, n), types[0]), cases.gates((6, n), types[0])
    order = {"gates_first": gates_first, "round_before_scale": round_before_scale and types[0] != "float32"}
    cases.check(plugin, x, cases.weights(n, types[1]), z=z, **order)
    cases.check(plugin, x, cases.weights(1, types[1]), z=z, **order, epsilon=0.125, rms_epsilon=0.25, rms_min=1.5)


def test_a_gate_and_a_scale_of_several_rows(plugin, types):
    """For each group, as in Mamba2."""
    x, z = cases.samples((12, 64), types[0]), cases.gates((12, 64), types[0])
    for gates_first in (False, True):
        cases.check(plugin, x, cases.weights_of_rows(4, 64, types[1]), z=z, gates_first=gates_first)


def test_a_scale_of_several_rows(plugin, types):
    cases.check_scale_rows(plugin, types)


@pytest.mark.parametrize("n", [7, 128, 1111, 16400])
def test_a_shift_a_sum_of_another_type_and_codes(plugin, types, round_before_scale, n):
    x, scale = cases.samples((6, n), types[0]), cases.weights(n, types[1])
    for kind in general_cases.kinds(x, n, types[1], 1):
        rounds = round_before_scale and types[0] != "float32"
        general_cases.check(plugin, x, scale, round_before_scale=rounds, **kind)


def test_a_shift_and_a_scale_of_several_rows(plugin, types):
    general_cases.check_rows_of_weights(plugin, types)


@pytest.mark.parametrize("shape", [(0, 8), (3, 0), (0, 0)], ids=str)
def test_an_empty_tensor(plugin, shape):
    x = cases.samples(shape, "float16")
    y, total = plugin.norm(x, cases.weights(shape[-1], "float16"), residual=x)
    assert y.shape == total.shape == shape


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [1, 64, 4096])
@pytest.mark.parametrize("n", [128, 1024, 4096, 16384, 16385])
def test_sizes_of_models(on_gpu, types, rows, n):
    plugin = Plugin(on_gpu)
    x, r = (cases.samples((rows, n), types[0], seed) for seed in (0, 1))
    for tactic in [0, *plugin.tactics(types[0], rows, n)]:
        cases.check(plugin, x, cases.weights(n, types[1]), residual=r, tactic=tactic)
