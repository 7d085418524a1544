"""The case table of the CUDA kernels: on the CPU, as C++ and as the PTX of nvcc; and on the GPU, where there is one.

On a GPU also run it under the sanitizer:
compute-sanitizer --tool memcheck python -m pytest -m gpu tests/plugins/kernels/cuda
(and --tool racecheck, --tool synccheck).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from . import cases, general_cases
from .broken import BROKEN, write_broken
from .compiling import kernels_for_cpu
from .driver import Kernels


@pytest.fixture(
    params=[
        "cpu", "cpu-reverse", pytest.param("ptx", marks=pytest.mark.slow), pytest.param("gpu", marks=pytest.mark.gpu)
    ]
)  # fmt: skip
def kernels(request):
    if request.param == "gpu":
        return Kernels(request.getfixturevalue("on_gpu"))
    if request.param == "ptx":
        return request.getfixturevalue("interpreted")
    library = request.getfixturevalue("on_cpu")
    Kernels.stand_in(library).set_reverse(request.param == "cpu-reverse")
    return Kernels(library)


@pytest.mark.parametrize("types", cases.TYPE_PAIRS, ids="-".join)
@pytest.mark.parametrize(
    "check", [*cases.BY_TYPES, *general_cases.BY_TYPES], ids=lambda check: check.__name__.removeprefix("check_")
)
def test_against_float64(kernels, check, types):
    check(kernels, types)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_extremes(kernels, dtype):
    cases.check_extremes(kernels, dtype)
    cases.check_extreme_gates(kernels, dtype)
    general_cases.check_extreme_sums(kernels, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_code(kernels, dtype):
    for round_quotient in (False, True):
        general_cases.check_every_code(kernels, dtype, round_quotient=round_quotient)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_16_bit_number_passes_unchanged(kernels, dtype):
    cases.check_every_number(kernels, dtype)


def test_empty_tensors(kernels):
    cases.check_empty(kernels)


def test_tactics_depend_on_the_length(kernels):
    assert kernels.tactics("float16", 64, 65536) == [16]  # several blocks for a row that none holds
    assert kernels.tactics("float16", 64, 16392) == [4, 16]
    assert kernels.tactics("float16", 64, 4096) == [1, 2, 4, 8]
    assert kernels.tactics("float16", 64, 128) == [1, 2, 4, 8]
    assert kernels.tactics("float16", 64, 111) == []  # rows that are not whole packs have one kernel
    assert kernels.tactics("float16", 64, 4096, inner=2) == []
    assert kernels.tactics("float16", 64, 4096, gate=1) == kernels.tactics("float16", 64, 4096, gate=2) == []
    assert kernels.tactics("float16", 64, 4096, sum_dtype="float32") == []
    assert kernels.tactics("float32", 64, 4096, output_dtype="int8") == []


def test_a_gate_needs_axes_that_end_with_the_last(on_cpu):
    x = cases.samples((2, 8, 3), "float32")
    with pytest.raises(AssertionError, match="invalid argument"):
        Kernels(on_cpu).norm(x, cases.weights(8, "float32"), axis=1, z=x)


@pytest.mark.parametrize(
    "part",
    [{"output_dtype": "int8", "y_scale": 1.0}, {"in_float32": True}, {"residual": "float32"}, {"shift": "float16"}],
    ids=["codes", "float32 sum", "mixed sum", "shift"],
)
def test_what_needs_axes_that_end_with_the_last(on_cpu, part):
    x = cases.samples((2, 8, 3), "float16")
    options = {"residual": x} | part
    options |= {"residual": x.astype("float32")} if "residual" in part else {}
    options |= {"shift": cases.weights(8, "float16")} if "shift" in part else {}
    with pytest.raises(AssertionError, match="invalid argument"):
        Kernels(on_cpu).norm(x, cases.weights(8, "float16"), axis=1, **options)


def test_a_float32_sum_of_float32_is_the_usual_one(on_cpu):
    """By the kernels for columns too, and the same bits."""
    x = cases.samples((2, 8, 3), "float32")
    kernels, scale = Kernels(on_cpu), cases.weights(8, "float32")
    usual, wide = (kernels.norm(x, scale, axis=1, residual=x, in_float32=flag) for flag in (False, True))
    assert [a.tobytes() for a in usual] == [a.tobytes() for a in wide]


@pytest.mark.parametrize("multiprocessors", [1, 200])
def test_any_number_of_multiprocessors(on_cpu, multiprocessors):
    """Few threads per row where rows are many, and the other way round."""
    kernels = Kernels(on_cpu)
    driver = Kernels.stand_in(on_cpu)
    driver.set_multiprocessors(multiprocessors)
    try:
        for n in (64, 1024, 8192):
            for rows in (1, 40):
                cases.check(kernels, cases.samples((rows, n), "float16"), cases.weights(n, "float16"))
    finally:
        driver.set_multiprocessors(4)


PROBE = """
import sys
from pathlib import Path
sys.path[:0] = [{root!r}]
from tests.plugins.kernels.cuda import cases, general_cases
from tests.plugins.kernels.cuda.driver import Kernels
library = Path({library!r})
Kernels.stand_in(library).set_reverse(int(sys.argv[1]))
kernels = Kernels(library)
tables = (cases.check_alignments, cases.check_columns, cases.check_scale_rows, cases.check_gates)
for check in (*tables, *general_cases.BY_TYPES):
    check(kernels, ("float16", "float16"))
for n in (64, 4096):
    cases.check(kernels, cases.samples((3, n), "float16"), cases.weights(n, "float16"))
x, scale, order = cases.samples((3, 64), "float16"), cases.weights(64, "float16"), "round_before_scale round_reciprocal"
cases.check(kernels, x, scale, **dict.fromkeys(order.split(), True))
cases.check_extremes(kernels, "bfloat16")
cases.check_extreme_gates(kernels, "bfloat16")
general_cases.check_extreme_sums(kernels, "bfloat16")
general_cases.check_every_code(kernels, "bfloat16")
"""


@pytest.mark.slow
@pytest.mark.parametrize("what", [*BROKEN, "nothing"])
def test_the_table_sees_a_broken_kernel(tmp_path, what):
    """Each line that is broken on purpose fails the table, in one order of the threads at least.

    In a process of its own, which a deadlock ends.
    """
    write_broken(tmp_path, what)
    library = kernels_for_cpu(tmp_path / "broken.so", tmp_path)
    script = PROBE.format(root=str(Path(__file__).parents[4]), library=str(library))
    passed = [
        subprocess.run(
            [sys.executable, "-c", script, reverse], capture_output=True, timeout=300, check=False
        ).returncode
        == 0
        for reverse in ("0", "1")
    ]
    assert all(passed) == (what == "nothing"), passed
