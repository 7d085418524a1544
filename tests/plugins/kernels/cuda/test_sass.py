"""What ptxas makes of the kernels' accesses to memory: as wide as they are meant, none split and none narrow."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from .compiling import run, virtual_of
from .ptx.arithmetic import bits_of
from .ptx.program import Program

pytestmark = pytest.mark.slow

WIDTHS = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1}  # of SASS; 4 without one


def accesses(opcode, code):
    """How many accesses of how many bytes, in the machine code of a kernel."""
    found = re.findall(rf"\b{opcode}\.([A-Z0-9.]+)", code)
    return Counter(next((WIDTHS[part] for part in parts.split(".") if part in WIDTHS), 4) for parts in found)


def wanted(verb, instructions):
    """The same in its PTX."""
    count = {"v2": 2, "v4": 4}
    return Counter(
        max(count.get(part, 1) for part in one.parts) * bits_of(one.type) // 8
        for one in instructions
        if one.parts[:2] == (verb, "global")
    )


@pytest.fixture(
    scope="module",
    params=[(ptx, gpu) for ptx in ("ptx", "gradient_ptx") for gpu in ("75", "80", "90", "120")],
    ids="-".join,
)
def kernels(request, nvcc, nvdisasm, tmp_path_factory):
    """Each kernel's instructions, in PTX and as machine code."""
    ptx, gpu = request.param
    source = request.getfixturevalue(ptx)(virtual_of(gpu))
    cubin = tmp_path_factory.mktemp("sass") / "norm.cubin"
    run([nvcc.with_name("ptxas"), "-O3", f"-arch=sm_{gpu}", source, "-o", cubin])
    program = Program.parse(source.read_text())
    sections = re.split(r"^\.text\.(\w+):", run([nvdisasm, "-c", cubin]), flags=re.MULTILINE)
    code = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert set(code) == set(program.kernels)
    return {name: (program.kernels[name].instructions, code[name]) for name in code}


@pytest.mark.parametrize("virtual", ["80", "90"])
def test_a_kernel_waits_for_the_one_before_it(ptx, virtual):
    """Before it touches memory; from 9.0 on, where it may have been launched early."""
    for name, kernel in Program.parse(ptx(virtual).read_text()).kernels.items():
        parts = [one.parts for one in kernel.instructions]
        waits = [i for i, part in enumerate(parts) if part[:2] == ("griddepcontrol", "wait")]
        memory = [
            i for i, part in enumerate(parts) if part[:1] in (("ld",), ("st",)) and part[1] in ("global", "shared")
        ]
        assert len(waits) == (1 if virtual == "90" else 0), name
        assert all(waits[0] < i for i in memory) if waits else memory, name


def test_no_access_is_split(kernels):
    for name, (instructions, code) in kernels.items():
        assert accesses("STG", code) == wanted("st", instructions), name
        assert accesses("LDG", code) == wanted("ld", instructions), name


def test_stores_are_as_wide_as_they_can_be(kernels):
    """16 bytes, or what a pack is once it is quantised; one element where a row starts or ends within them.

    Of a gradient, also one element in rows that only float64 can hold, and the float32 sums of blocks of several rows.
    """
    for name, (_, code) in kernels.items():
        element = 4 if name.endswith("float32") else 2
        part = 4 if name.endswith("float32") else 8  # of a quantised y, for a pack of x
        if name.startswith(("norm_rows", "norm_shared_rows", "norm_gated_rows")):
            assert set(accesses("STG", code)) == {16}, name
        elif name.startswith("norm_general_rows"):
            assert set(accesses("STG", code)) == {16, part}, name
        elif name.startswith("norm_general_any_rows"):
            assert set(accesses("STG", code)) == {16, part, element, 4, 1}, name
        elif name.startswith(("norm_any_rows", "norm_gated_any_rows")):
            assert set(accesses("STG", code)) == {16, element}, name
        elif name.startswith("gradient_rows"):
            assert set(accesses("STG", code)) == {16, element, 4}, name
        elif name.startswith("gradient"):
            assert set(accesses("STG", code)) <= {element, 4}, name
        else:
            assert set(accesses("STG", code)) == {int(name.split("_")[2])}, name
