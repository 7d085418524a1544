"""What the interpreter lets pass, and what it calls a fault, on kernels of a few lines."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from .device import execute
from .memory import Region
from .program import Program, PtxError
from .threads import Launch

KERNEL = """
.shared .align 4 .b8 sums[256];
.visible .entry kernel(
	.param .align 8 .b8 kernel_param_0[16]
)
{
	.reg .b32 %r<9>;
	ld.param.u64 	%rd1, [kernel_param_0];
	mov.u32 	%r1, %tid.x;
	mul.wide.u32 	%rd2, %r1, 4;
	add.s64 	%rd3, %rd1, %rd2;
	mov.u64 	%rd4, sums;
	add.s64 	%rd5, %rd4, %rd2;
@BODY@
	ret;
}
"""  # %rd1: y; %rd3: the thread's element of y; %rd5: the thread's element of sums

TURNED = """
	st.shared.u32 	[%rd5], %r1;
	bar.sync 	0;
	sub.s64 	%rd6, %rd4, %rd2;
	ld.shared.u32 	%r2, [%rd6+252];
	st.global.u32 	[%rd3], %r2;
"""


def run(body, *, threads=64, blocks=1, size=64, is_writable=True):
    """y after the kernel, of `size` elements."""
    memory = np.full(size + 16, 7, np.uint32)
    start = -memory.ctypes.data // 4 % 4  # a multiple of 16 bytes
    y = memory[start : start + size]
    launch = Launch("kernel", (blocks, 1), (threads, 1), 0, np.uint64([y.ctypes.data, 0]).tobytes())
    region = Region.tensor("y", y.ctypes.data, y.nbytes, is_writable=is_writable)
    execute(Program.parse(KERNEL.replace("@BODY@", body)), launch, [region], Counter())
    return y.tolist()


def test_a_row_is_turned_round_through_shared_memory():
    assert run(TURNED) == list(range(64))[::-1]


def test_threads_part_and_meet():
    """The sum of 0 to its own number, in a loop that each thread leaves at another time; then what the warp has."""
    body = """
	mov.u32 	%r2, 0;
	mov.u32 	%r3, 0;
$loop:
	add.s32 	%r3, %r3, %r2;
	add.s32 	%r2, %r2, 1;
	setp.le.u32 	%p1, %r2, %r1;
	@%p1 bra 	$loop;
	and.b32 	%r4, %r1, 1;
	setp.eq.s32 	%p2, %r4, 0;
	@!%p2 bra 	$odd;
	add.s32 	%r3, %r3, 1000;
	bra.uni 	$end;
$odd:
	add.s32 	%r3, %r3, 2000;
$end:
	shfl.sync.bfly.b32 	%r5|%p3, %r3, 1, 31, -1;
	st.global.u32 	[%rd3], %r5;
"""
    sums = [n * (n + 1) // 2 + (2000 if n % 2 else 1000) for n in range(64)]
    assert run(body) == [sums[n ^ 1] for n in range(64)]


def test_a_vote_is_of_one_warp():
    body = """
	setp.eq.s32 	%p1, %r1, 40;
	vote.sync.any.pred 	%p2, %p1, -1;
	selp.b32 	%r2, 1, 0, %p2;
	st.global.u32 	[%rd3], %r2;
"""
    assert run(body) == [0] * 32 + [1] * 32


def test_what_a_guard_keeps_is_unchanged():
    body = "	setp.lt.u32 	%p1, %r1, 3;\n	@%p1 st.global.u32 	[%rd3], %r1;\n"
    assert run(body) == [0, 1, 2] + [7] * 61


STORE = "	st.global.u32 	[%rd3], %r1;\n"
TURNED_STORE = "	sub.s64 	%rd6, %rd1, %rd2;\n	st.global.u32 	[%rd6+252], %r1;\n"
HALF_STAY = "	setp.lt.u32 	%p1, %r1, 16;\n	@%p1 bra 	$end;\n{}\n$end:\n"

FAULTS = {
    "y: a store outside of it": (STORE, {"size": 63}),
    "y: a store into an input": (STORE, {"is_writable": False}),
    "outside of everything": (STORE.replace("%rd3", "%rd3+4096"), {}),
    "y: a load of 8 bytes that is not aligned": ("	ld.global.u64 	%rd6, [%rd3];\n", {}),
    "y: a race, two threads store to one place": (STORE.replace("%rd3", "%rd1"), {}),
    "y: a race": (STORE.replace("%rd3", "%rd1"), {"threads": 32, "blocks": 2}),
    "y: a race, a store over what another warp uses": (STORE + TURNED_STORE, {}),
    "sums: a race, a load of what another warp has written": (TURNED.replace("\tbar.sync \t0;\n", ""), {}),
    "sums: a load of what nobody has written": ("	ld.shared.u32 	%r2, [%rd5];\n", {}),
    "threads wait for others that are not there: bar.sync": (HALF_STAY.format("	bar.sync 	0;"), {}),
    "threads wait for others that are not there: vote": (
        HALF_STAY.format("	vote.sync.any.pred 	%p2, %p1, -1;"),
        {},
    ),
    "not the whole warp": ("	vote.sync.any.pred 	%p2, 0, 65535;\n", {}),
    "a division by zero": ("	div.u32 	%r2, 64, %r1;\n", {}),
    "%r7 is read before it is written": ("	add.s32 	%r2, %r7, 1;\n", {}),
    "not known: dp4a": ("	dp4a.u32.u32 	%r2, %r1, %r1, %r1;\n", {}),
    "a parameter outside of its 16 bytes": ("	ld.param.u64 	%rd6, [kernel_param_0+16];\n", {}),
}


@pytest.mark.parametrize("message", FAULTS)
def test_faults(message):
    body, options = FAULTS[message]
    with pytest.raises(PtxError, match=f".*{message}"):
        run(body, **options)


def test_a_kernel_and_its_launch_agree_on_the_argument():
    launch = Launch("kernel", (1, 1), (32, 1), 0, bytes(24))
    with pytest.raises(PtxError, match="kernel takes 16 bytes, and the launch has 24"):
        execute(Program.parse(KERNEL.replace("@BODY@", "")), launch, [], Counter())


def test_a_barrier_with_a_question():
    """In the registers of a block in braces, as nvcc writes it."""
    body = """
	setp.ne.s32 	%p1, %r1, 40;
	setp.eq.s32 	%p2, %r1, 40;
	{
	.reg .pred 	%p1;
	.reg .pred 	%p2;
	setp.eq.s32 	%p1, %r1, 40;
	bar.red.or.pred 	%p2, 0, %p1;
	selp.b32 	%r2, 1, 0, %p2;
	}
	@%p1 st.global.u32 	[%rd3], %r2;
	@%p2 st.global.u32 	[%rd3], 9;
"""
    assert run(body) == [9 if i == 40 else 1 for i in range(64)]
    assert run(body.replace("%r1, 40", "%r1, 64")) == [0] * 64
