"""The PTX that nvcc writes of the kernels, executed without a GPU: the launches are those of the real launcher.

A part of the case table runs here, and all of it in test_kernels.py (`-m slow`). What is broken on purpose, one
instruction after the other, has to be seen.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from . import cases, general_cases
from .broken import BROKEN, write_broken
from .compiling import ptx_of
from .ptx.device import Interpreted
from .ptx.program import Address, Program, PtxError


@pytest.fixture(scope="module")
def program(ptx):
    return Program.parse(ptx("80").read_text())


LONG = (general_cases.check_kinds, general_cases.check_skews)
"""Each takes ten seconds and more."""


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=check.__name__.removeprefix("check_"), marks=pytest.mark.slow if check in LONG else ())
        for check in (*cases.BY_TYPES, *general_cases.BY_TYPES)
    ],
)
def test_against_float64(interpreted, check):
    check(interpreted, ("float16", "float16"))


def test_extremes(interpreted):
    cases.check_extremes(interpreted, "bfloat16")
    cases.check_extreme_gates(interpreted, "bfloat16")
    general_cases.check_extreme_sums(interpreted, "bfloat16")


@pytest.mark.parametrize("virtual", ["80", "90"])
@pytest.mark.parametrize(
    "dtype",
    [pytest.param("float32", marks=pytest.mark.slow), "float16", pytest.param("bfloat16", marks=pytest.mark.slow)],
)
def test_every_code(on_cpu, ptx, virtual, dtype):
    """By integers, and by the instruction that GPUs have for float8 from 9.0 on."""
    program = Program.parse(ptx(virtual).read_text())
    instructions = [one.parts for one in program.kernels[f"norm_general_rows_{dtype}"].instructions]
    assert any("e4m3x2" in parts for parts in instructions) == (virtual == "90")
    general_cases.check_every_code(Interpreted(on_cpu, program), dtype)


def test_the_launches_are_those_of_the_launcher(interpreted):
    interpreted.launches.clear()
    cases.check(interpreted, cases.samples((5, 4096), "float32"), cases.weights(4096, "float32"), tactic=2)
    assert [(launch.kernel, launch.grid, launch.block) for launch in interpreted.launches] == [
        ("norm_rows_2_float32", (3, 1), (512, 1)),  # the tests' launcher launches three blocks at a time
        ("norm_rows_2_float32", (2, 1), (512, 1)),
    ]


@pytest.mark.parametrize(
    ("shape", "dtype", "kernel"),
    [
        ((2, 64, 7 * 7), "bfloat16", "norm_columns_4_bfloat16"),
        ((2, 64, 14 * 14), "bfloat16", "norm_columns_8_bfloat16"),
        ((2, 64, 7 * 7), "float32", "norm_columns_4_float32"),
        ((2, 63, 7 * 7), "bfloat16", "norm_columns_2_bfloat16"),
    ],
)
def test_odd_columns(on_cpu, program, shape, dtype, kernel):
    """As wide as the rows are aligned; two rows are taken as one if they have an odd number of 16-bit elements."""
    kernels = Interpreted(on_cpu, program)
    x, scale = cases.samples(shape, dtype), cases.weights(shape[1], dtype)
    for size in (None, 32, 33):
        cases.check(kernels, x, scale, axis=1, partial_size=size)
    assert kernels.launches[0].kernel == kernel
    executed = [Interpreted(on_cpu, program) for _ in range(3)]
    for kernels, value in zip(executed, (1.0, np.nan, np.inf), strict=True):
        x[0, 3, 5] = value
        cases.check(kernels, x, scale, axis=1)
    usual, nan, infinity = (sum(kernels.executed.values()) for kernels in executed)
    assert nan <= usual
    assert infinity < 2 * usual  # its column is summed again, by all threads that share it


@pytest.mark.parametrize(
    ("gpu", "rows", "n", "kernel", "blocks", "shared_bytes"),
    [
        (90, 1, 40000, "norm_shared_rows", 3, 32768),  # few rows: several blocks for each
        (75, 20, 40000, "norm_shared_rows", 3, 32768),
        (86, 17, 65536, "norm_shared_rows", 3, 65536),
        (90, 40, 40000, "norm_shared_rows", 1, 80000),
        (75, 40, 40000, "norm_any_rows", 1, 0),  # whose block has 64 KB
    ],
)
def test_long_rows(on_cpu, program, gpu, rows, n, kernel, blocks, shared_bytes):
    """Blocks for half of the multiprocessors, where rows are few; else one that keeps the row, if the GPU can."""
    kernels = Interpreted(on_cpu, program)
    kernels.driver.set_gpu(gpu)
    kernels.driver.set_multiprocessors(132)
    try:
        cases.check(kernels, cases.samples((rows, n), "bfloat16"), cases.weights(n, "bfloat16"))
    finally:
        kernels.driver.set_gpu(90)
        kernels.driver.set_multiprocessors(4)
    assert {(launch.kernel, launch.grid[1], launch.shared_bytes) for launch in kernels.launches} == {
        (f"{kernel}_bfloat16", blocks, shared_bytes)
    }
    ran = [(program.kernels[name].instructions[i], threads) for (name, i), threads in kernels.executed.items()]
    loads = sum(threads for one, threads in ran if one.parts[:3] == ("ld", "global", "cg")) * 8 / (rows * n)
    # Times that memory or L2 is read: by each block, and once more where none keeps the row.
    assert loads == (blocks if shared_bytes else pytest.approx(1 + blocks, abs=0.4))


FREE = (("mov",), ("cvta",), ("ld", "param"))
"""Instructions that ptxas drops or makes operands of others."""

PER_ELEMENT = {
    ("float32", "float32", False): (16.2, 14.4),
    ("bfloat16", "float32", False): (13.2, 11.9),
    ("bfloat16", "bfloat16", False): (14.0, 12.5),
    ("bfloat16", "bfloat16", True): (16.7, 13.8),
    ("float16", "float16", True): (24.2, 19.9),
}
"""Instructions of a thread for each element of rows of 4096, 4 packs a thread. Before: with branches on types for each
pack, and a multiplication by a power of two. A thread asks once whether the scale has several rows: 0.1 of them. The
PTX for float16 unpacks in more instructions than the GPU does."""


def ran(kernels):
    """The parts of each instruction that ran, and by how many threads."""
    code = kernels.program.kernels
    return [(code[name].instructions[i].parts, threads) for (name, i), threads in kernels.executed.items()]


def instructions_for_each(kernels, elements):
    counted = (threads for parts, threads in ran(kernels) if all(parts[: len(free)] != free for free in FREE))
    return sum(counted) / elements


@pytest.mark.parametrize("case", PER_ELEMENT, ids=lambda case: f"{case[0]}-{case[1]}-{'T' if case[2] else 'once'}")
def test_instructions_for_each_element(on_cpu, program, case):
    (dtype, scale_dtype, order), (before, most) = case, PER_ELEMENT[case]
    kernels = Interpreted(on_cpu, program)
    x, scale = cases.samples((3, 4096), dtype), cases.weights(4096, scale_dtype)
    cases.check(kernels, x, scale, tactic=4, round_before_scale=order)
    now = instructions_for_each(kernels, x.size)
    print(f"{dtype}, scale {scale_dtype}: {before} instructions an element before, {now:.1f} now")
    assert now <= most


@pytest.mark.parametrize(
    ("dtype", "n", "is_aligned", "most"),
    [
        ("bfloat16", 4096, True, 34),
        ("bfloat16", 4000, False, 43),
        ("float32", 4096, True, 41),
        ("float32", 4000, False, 64),
    ],
)
@pytest.mark.parametrize("gates_first", [False, True], ids=["behind", "before"])
def test_instructions_for_each_gated_element(on_cpu, program, dtype, n, is_aligned, most, gates_first):
    """What gated_rows.cuh says of the two kernels. The exponential is computed once.

    A pack asks anew which gate it is; the machine code is shorter all the same than with arguments in registers.
    """
    kernels = Interpreted(on_cpu, program)
    x, z, scale = cases.samples((3, n), dtype), cases.gates((3, n), dtype), cases.weights(n, dtype)
    cases.check(kernels, x, scale, z=z, gates_first=gates_first, skew=0 if is_aligned else x.itemsize)
    assert kernels.launches[0].kernel == f"norm_gated{'' if is_aligned else '_any'}_rows_{dtype}"
    assert instructions_for_each(kernels, x.size) <= most
    powers = sum(threads for parts, threads in ran(kernels) if parts[0] == "ex2")
    assert powers == pytest.approx(x.size, rel=0.03)  # threads without a pack compute too


@pytest.mark.parametrize(
    ("part", "virtual", "most"),
    [
        ("shift", "80", 22),
        ("float32 residual", "80", 26),
        ("float32 sum", "80", 24),
        ("int8", "80", 27),
        ("float8", "80", 37),
        ("float8", "90", 23),
        ("float8 of a sum", "90", 31),
    ],
)
def test_instructions_for_each_general_element(on_cpu, ptx, part, virtual, most):
    """Of aligned rows of bfloat16; a division counts as one. What float8 takes before 9.0 are integers."""
    kernels = Interpreted(on_cpu, Program.parse(ptx(virtual).read_text()))
    x, residual = (cases.samples((3, 4096), "bfloat16", seed) for seed in (0, 1))
    float8 = {"output_dtype": "float8e4m3fn", "y_scale": 0.02}
    options = {
        "shift": {"shift": general_cases.shifts(4096, "bfloat16")},
        "float32 residual": {"residual": residual.astype(np.float32)},
        "float32 sum": {"residual": residual, "in_float32": True},
        "int8": {"output_dtype": "int8", "y_scale": 0.02},
        "float8": float8,
        "float8 of a sum": {"residual": residual, **float8},
    }
    general_cases.check(kernels, x, cases.weights(4096, "bfloat16"), **options[part])
    assert kernels.launches[0].kernel == "norm_general_rows_bfloat16"
    assert instructions_for_each(kernels, x.size) <= most


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_ptx_for_7_5(on_cpu, ptx, dtype):
    """It rounds to bfloat16 by integers."""
    kernels = Interpreted(on_cpu, Program.parse(ptx("75").read_text()))
    for check in (cases.check_alignments, cases.check_partial, cases.check_gates, *general_cases.BY_TYPES):
        check(kernels, (dtype, dtype))
    general_cases.check_extreme_sums(kernels, dtype)
    general_cases.check_every_code(kernels, dtype)
    cases.check_extremes(kernels, dtype)
    cases.check_extreme_gates(kernels, dtype)
    cases.check_every_number(kernels, dtype)


def probe(kernels, kernel):
    """Runs a kernel on few problems, with its second sum and its writes in place."""
    dtype = kernel.rpartition("_")[2]
    tactic = int(kernel.split("_")[2]) if kernel.startswith("norm_rows") else 0
    n = 33000 if "shared" in kernel else 960 * tactic or 1111  # several warps a row; the last threads have no pack
    shape, axis = ((3, n), 1)
    if "columns" in kernel:
        inner = {"16": 24, "8": 12, "4": 9, "2": 9}[kernel.split("_")[2]]  # 9: two rows are taken as one
        shape, axis = ((2, 601 if "columns_2" in kernel else 600, inner), 1)
    if "gated" in kernel or "general" in kernel:
        (probe_gates if "gated" in kernel else probe_general)(kernels, kernel)
        return
    x, residual = cases.samples(shape, dtype), cases.samples(shape, dtype, 1)
    scale, options = cases.weights(shape[axis], dtype), {"axis": axis, "tactic": tactic}
    cases.check(kernels, x, scale, **options)
    cases.check(kernels, x, scale, residual=residual, y_is="x", **options)
    wide = np.random.default_rng(2).uniform(1e25, 2e25, shape)  # whose squares overflow float32
    wide[0] *= 1e-40
    cases.check(kernels, wide.astype(x.dtype), scale, epsilon=0.0, y_is="x", **options)
    if "shared" in kernel:  # the same with several blocks for each row
        kernels.driver.set_multiprocessors(132)
        try:
            cases.check(kernels, x, scale, residual=residual, **options)
            cases.check(kernels, wide.astype(x.dtype), scale, epsilon=0.0, **options)
        finally:
            kernels.driver.set_multiprocessors(4)
    assert kernel in {launch.kernel for launch in kernels.launches}


def probe_gates(kernels, kernel):
    """The same of a gated norm."""
    dtype = kernel.rpartition("_")[2]
    for n in (1111, 8845) if "any" in kernel else (1112, 8840):  # one chunk, and two of which the last is not whole
        for gates_first in (False, True):
            shape = (3, n)
            x, z, scale = cases.samples(shape, dtype), cases.gates(shape, dtype), cases.weights(shape[1], dtype)
            options = {"z": z, "gates_first": gates_first}
            cases.check(kernels, x, scale, y_is="x", **options)
            wide = np.random.default_rng(2).uniform(1e25, 2e25, shape)
            wide[0] *= 1e-40
            cases.check(kernels, wide.astype(x.dtype), scale, epsilon=0.0, y_is="z", **options)
    assert kernel in {launch.kernel for launch in kernels.launches}


def probe_general(kernels, kernel):
    """The same of rows with a shift, with sums of either type, and of a quantised y."""
    dtype = kernel.rpartition("_")[2]
    for n in (1111, 8845) if "any" in kernel else (1112, 8840):
        x, scale = cases.samples((3, n), dtype), cases.weights(n, dtype)
        wide = np.random.default_rng(2).uniform(1e25, 2e25, x.shape)
        wide[0] *= 1e-40
        for kind in general_cases.kinds(x, n, dtype, 1):
            general_cases.check(kernels, x, scale, y_is=None if "output_dtype" in kind else "x", **kind)
            if "residual" in kind:
                general_cases.check(kernels, wide.astype(x.dtype), scale, epsilon=0.0, sum_is="residual", **kind)
    if "any" in kernel:  # float32 rows that are whole where those of x are, and codes
        x = cases.samples((2, 40), dtype)
        for kind in general_cases.kinds(x, 40, dtype, 1):
            general_cases.check(kernels, x, cases.weights(40, dtype), skew=8, **kind)
    assert kernel in {launch.kernel for launch in kernels.launches}


KERNELS = [
    *("norm_rows_1", "norm_rows_4", "norm_shared_rows", "norm_any_rows", "norm_gated_rows", "norm_gated_any_rows"),
    *("norm_general_rows", "norm_general_any_rows"),
    *("norm_columns_16", "norm_columns_8", "norm_columns_4", "norm_columns_2"),
]


def broken(program, kernel, number, instruction):
    """The program with another instruction in a place of one kernel; None: with none."""
    instructions = list(program.kernels[kernel].instructions)
    # A jump's target is a number: what is dropped becomes something that does nothing.
    nothing = dataclasses.replace(instructions[number], opcode="mov.u32", parts=("mov", "u32"), operands=("%none", "0"))
    instructions[number] = instruction or nothing
    changed = dataclasses.replace(program.kernels[kernel], instructions=instructions)
    return Program({**program.kernels, kernel: changed}, program.shared)


def is_caught(on_cpu, program, kernel):
    return fails(probe, Interpreted(on_cpu, program), kernel)


def fails(check, *arguments):
    try:
        check(*arguments)
    except (PtxError, AssertionError):
        return True
    return False


@pytest.mark.parametrize("kernel", [f"{name}_bfloat16" for name in KERNELS])
def test_each_barrier_is_needed(on_cpu, program, kernel):
    assert not fails(probe, Interpreted(on_cpu, program), kernel)
    barriers = [i for i, one in enumerate(program.kernels[kernel].instructions) if one.parts[0] == "bar"]
    assert len(barriers) >= 2
    missed = [i for i in barriers if not is_caught(on_cpu, broken(program, kernel, i, None), kernel)]
    assert not missed


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [f"{name}_bfloat16" for name in KERNELS])
def test_each_shifted_address_is_seen(on_cpu, program, kernel):
    """By 16 bytes, in each load and store that the probe executes."""
    interpreter = Interpreted(on_cpu, program)
    probe(interpreter, kernel)
    instructions = program.kernels[kernel].instructions
    places = [i for name, i in interpreter.executed if name == kernel]
    executed = [i for i in places if instructions[i].parts[:2] in (("ld", "global"), ("st", "global"))]
    assert len(executed) >= 4
    missed = []
    for i in executed:
        one = instructions[i]
        operands = tuple(
            Address(operand.base, operand.offset + 16) if isinstance(operand, Address) else operand
            for operand in one.operands
        )
        if not is_caught(on_cpu, broken(program, kernel, i, dataclasses.replace(one, operands=operands)), kernel):
            missed.append(one.text)
    assert not missed


@pytest.mark.slow
@pytest.mark.parametrize("what", [*BROKEN, "nothing"])
def test_a_broken_source_is_seen(on_cpu, nvcc, tmp_path, what):
    """By the part of the table that is for its line, compiled by nvcc again; the launcher is the whole one."""
    write_broken(tmp_path, what)
    kernels = Interpreted(on_cpu, Program.parse(ptx_of(nvcc, "80", tmp_path / "broken.ptx", tmp_path).read_text()))

    def check_rows(kernels, types):
        for n, rounds in ((64, False), (4096, False), (64, True)):
            orders = {"round_before_scale": rounds, "round_reciprocal": rounds}
            x, z, scale = cases.samples((3, n), types[0]), cases.gates((3, n), types[0]), cases.weights(n, types[1])
            cases.check(kernels, x, scale, **orders)
            cases.check(kernels, x, scale, z=z, round_before_scale=rounds)
            for kind in general_cases.kinds(x, n, types[1], 1):
                general_cases.check(kernels, x, scale, round_before_scale=rounds, **kind)

    rows_of_weights = (cases.check_scale_rows, general_cases.check_rows_of_weights)
    checks = (check_rows, cases.check_columns, cases.check_alignments, *rows_of_weights)
    seen = any(fails(check, kernels, ("float16", "float16")) for check in checks)
    extremes = (cases.check_extremes, cases.check_extreme_gates, general_cases.check_extreme_sums)
    seen = seen or any(fails(check, kernels, "bfloat16") for check in (*extremes, general_cases.check_every_code))
    assert seen == (what != "nothing")
