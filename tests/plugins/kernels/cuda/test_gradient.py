"""The case table of the backward pass: on the CPU, as C++ and as the PTX of nvcc; on the GPU, where there is one."""

from __future__ import annotations

import numpy as np
import pytest

from . import gradient_cases as cases
from .cases import TYPE_PAIRS
from .driver import Kernels
from .ptx.device import Interpreted
from .test_interpreted import broken, fails


@pytest.fixture(
    params=[
        "cpu",
        pytest.param("cpu-reverse", marks=pytest.mark.slow),
        pytest.param("ptx", marks=pytest.mark.slow),
        pytest.param("gpu", marks=pytest.mark.gpu),
    ]
)
def kernels(request):
    if request.param == "gpu":
        return Kernels(request.getfixturevalue("on_gpu"))
    if request.param == "ptx":
        return request.getfixturevalue("interpreted_gradient")
    library = request.getfixturevalue("on_cpu")
    Kernels.stand_in(library).set_reverse(request.param == "cpu-reverse")
    return Kernels(library)


CHECKS = [
    pytest.param(check, marks=pytest.mark.slow if check is cases.check_long_rows else ()) for check in cases.BY_TYPES
]


@pytest.mark.parametrize("types", TYPE_PAIRS, ids="-".join)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_against_float64(kernels, check, types):
    check(kernels, types)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_extremes(kernels, dtype):
    cases.check_extremes(kernels, dtype)


def test_empty_tensors(kernels):
    cases.check_empty(kernels)


def test_one_kind_of_each_in_ptx(interpreted_gradient):
    """The rest is slow. The launches are those of the real launcher."""
    interpreted_gradient.launches.clear()
    cases.check(interpreted_gradient, *cases.case(11, 1024, ("bfloat16", "float32")))
    cases.check(interpreted_gradient, *cases.case(40, 64, ("float16", "float16")))
    cases.check(interpreted_gradient, *cases.case(40, 111, ("float32", "float32")))
    cases.check_extremes(interpreted_gradient, "bfloat16")
    launched = [(launch.kernel, launch.grid, launch.block) for launch in interpreted_gradient.launches]
    assert launched[:2] == [
        (
            "gradient_rows_bfloat16",
            (11, 1),
            (64, 1),
        ),  # as many rows at once as the stand-in's four multiprocessors hold
        ("gradient_reduce_float32", (32, 1), (32, 32)),
    ]
    assert {"gradient_any_rows_float32", "gradient_any_scale_float32"} <= {kernel for kernel, *_ in launched}


def probe(kernels, kernel):
    """Runs a kernel, its sums in float64 included."""
    dtype = kernel.rpartition("_")[2]
    for rows, n in ((9, 1111), (40, 33)) if "any" in kernel else ((9, 8192), (90, 64)):
        x, scale, grad = cases.case(rows, n, (dtype, dtype))
        cases.check(kernels, x, scale, grad)
        wide = (np.random.default_rng(2).uniform(1e25, 2e25, x.shape)).astype(x.dtype)  # whose squares overflow float32
        cases.check(kernels, wide, scale, grad, epsilon=0.0)
    assert kernel in {launch.kernel for launch in kernels.launches}


KERNELS = {"gradient_rows": 3, "gradient_any_rows": 2, "gradient_any_scale": 1, "gradient_reduce": 1}
"""With their barriers."""


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_each_barrier_is_needed(on_cpu, interpreted_gradient, name):
    program, kernel = interpreted_gradient.program, f"{name}_bfloat16"
    assert not fails(probe, Interpreted(on_cpu, program), kernel)
    barriers = [i for i, one in enumerate(program.kernels[kernel].instructions) if one.parts[0] == "bar"]
    assert len(barriers) == KERNELS[name]
    missed = [i for i in barriers if not fails(probe, Interpreted(on_cpu, broken(program, kernel, i, None)), kernel)]
    assert not missed
