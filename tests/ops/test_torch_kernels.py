"""The compiled norms of torch's eager mode: gradients against float64, and every way in which torch differentiates."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, gradcheck

from rms_deploy.nn import AddRMSNorm, PartialRMSNorm, RMSNorm
from rms_deploy.ops import torch_kernels

ROOT = Path(__file__).parents[2]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
TYPES = [(torch.float32, torch.float32)] + [(t, s) for t in DTYPES[1:] for s in (torch.float32, t)]
# shape of x, shape of the norm, its axes
SHAPES = [
    ((1,), (1,), [-1]),
    ((5, 1), (1,), [-1]),
    ((3, 7, 111), (111,), [-1]),
    ((130, 96), (96,), [-1]),
    ((3, 4099), (4099,), [-1]),
    ((700, 160), (160,), [-1]),
    ((2, 6, 5), (6, 5), [-2, -1]),
    ((3, 6, 5, 3), (6,), [-3]),
    ((2, 37, 300), (37,), [-2]),
    ((2, 3, 5, 40, 7), (3, 5), [-4, -3]),
]


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def module(kind=RMSNorm, shape=(96,), *arguments, dtype=torch.float32, seed=1, **options):
    norm = kind(shape, *arguments, epsilon=1e-2, **options)
    if norm.weight is not None:
        norm.weight.data = rand(*norm.weight.shape, seed=seed, dtype=dtype)
    return norm


def is_compiled(y: Tensor) -> bool:
    return type(y.grad_fn).__name__ in ("_RMSNormBackward", "_AddRMSNormBackward")


def exact(x: Tensor, weight: Tensor, axes, grad: Tensor, k=None, epsilon=1e-2, rms_epsilon=0.0, rms_min=0.0):
    """dL/dx and dL/dscale in float64 by autograd, and the magnitudes that their rounding errors are relative to: the
    sums of the absolute values of what they are sums of.
    """
    x, weight, grad = (tensor.detach().double() for tensor in (x, weight, grad))
    first, last = x.ndim + axes[0], x.ndim + axes[-1]
    flat = x.flatten(first, last).narrow(first, 0, k or weight.numel())
    mean = flat.square().mean(first, keepdim=True)
    root = (mean + epsilon).sqrt()
    rms = (root + rms_epsilon).clamp(min=rms_min)
    count = flat.shape[first]

    def block(statistic):  # in the rank of x
        return statistic.reshape([1 if first <= axis <= last else size for axis, size in enumerate(x.shape)])

    root, rms = block(root), block(rms)
    axes = tuple(range(first, last + 1))
    normed = x / rms
    scaled = grad * weight
    counted = torch.zeros(x.shape, dtype=torch.float64).flatten(first, last)
    counted.narrow(first, 0, count).fill_(1.0)
    counted = counted.reshape(x.shape) * (rms > rms_min)
    share = (scaled * x).sum(axes, keepdim=True) / (count * root)
    dx = (scaled - counted * normed * share) / rms
    absolute = (scaled * x).abs().sum(axes, keepdim=True) / (count * root)
    dx_magnitude = (scaled.abs() + counted * normed.abs() * absolute) / rms
    dscale = (grad * normed).sum_to_size(weight.shape)
    return dx, dx_magnitude, dscale, (grad * normed).abs().sum_to_size(weight.shape)


def assert_near(actual: Tensor, expected: Tensor, magnitude: Tensor) -> None:
    """|actual - expected| <= 128 * 2^-24 * magnitude + one rounding to the dtype.

    128 bounds the float32 roundings on the longest way, 2^-24 each. An accumulator takes 32 terms, and the 64 are then
    added in 6 steps: 38 for the sum of squares, halved by the root, so that 1 / r has 20; 41 for the sum of products,
    and 21 for its root. u has 22, the product and the difference 3, before they are multiplied by 1 / r: 107. A sum
    over rows takes 64 terms of u: 87.
    """
    assert actual.dtype in DTYPES
    bound = 128 * 2.0**-24 * magnitude + (torch.finfo(actual.dtype).eps / 2) * expected.abs()
    bound += torch.finfo(actual.dtype).smallest_normal * torch.finfo(actual.dtype).eps  # the last subnormal
    excess = (actual.double() - expected).abs() - bound
    assert excess.max(), "nothing was compared"
    assert float(excess.max()) <= 0


def test_the_library_is_there() -> None:
    assert torch_kernels._library() is not None


def test_header_and_python_agree() -> None:
    header = (ROOT / "plugins/torch/api.h").read_text()
    assert f"kRmsDeployTorchVersion = {torch_kernels._VERSION};" in header
    struct = header[header.index("struct RmsDeployTorchNorm {") : header.index("};")]
    fields = re.findall(r"^  (\w+) (\w+);", struct, re.MULTILINE)
    names = {"int64_t": "c_long", "int32_t": "c_int", "float": "c_float"}
    assert [(name, names[kind]) for kind, name in fields] == [
        (name, kind.__name__) for name, kind in torch_kernels._Norm._fields_
    ]


# Gradients


@pytest.mark.parametrize("order", [{}, {"round_before_scale": True}, {"round_reciprocal": True}], ids=str)
@pytest.mark.parametrize("types", TYPES, ids=str)
@pytest.mark.parametrize(("shape", "norm_shape", "axes"), SHAPES, ids=str)
def test_gradients(shape, norm_shape, axes, types, order) -> None:
    norm = module(RMSNorm, norm_shape, axes=axes, dtype=types[1], **order)
    x = (3 * rand(*shape, dtype=types[0])).requires_grad_()
    grad = rand(*shape, seed=2, dtype=types[0])
    y = norm(x)
    assert is_compiled(y)
    y.backward(grad)
    dx, dx_magnitude, dscale, dscale_magnitude = exact(x, norm.weight, axes, grad)
    assert_near(x.grad, dx, dx_magnitude)
    assert_near(norm.weight.grad, dscale, dscale_magnitude)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "norm_shape", "axes"), [SHAPES[i] for i in (2, 3, 4, 6, 7, 8)], ids=str)
def test_partial_gradients(shape, norm_shape, axes, dtype) -> None:
    n = torch.Size(norm_shape).numel()
    for k in sorted({1, 2, n // 2, n - 1, n}):
        norm = module(PartialRMSNorm, norm_shape, k, axes=axes, dtype=dtype)
        x = rand(*shape, dtype=dtype).requires_grad_()
        grad = rand(*shape, seed=2, dtype=dtype)
        norm(x).backward(grad)
        dx, dx_magnitude, dscale, dscale_magnitude = exact(x, norm.weight, axes, grad, k)
        finite = dx.abs() < torch.finfo(dtype).max
        assert_near(x.grad[finite], dx[finite], dx_magnitude[finite])
        assert_near(norm.weight.grad, dscale, dscale_magnitude)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "norm_shape", "axes"), [SHAPES[i] for i in (2, 3, 8)], ids=str)
def test_add_gradients(shape, norm_shape, axes, dtype) -> None:
    norm = module(AddRMSNorm, norm_shape, axes=axes, dtype=dtype)
    x, residual = (rand(*shape, seed=i, dtype=dtype).requires_grad_() for i in (0, 5))
    grad, grad_total = (rand(*shape, seed=i, dtype=dtype) for i in (2, 3))
    for uses in ("y", "total", "both"):
        x.grad = residual.grad = norm.weight.grad = None
        y, total = norm(x, residual)
        assert is_compiled(y)
        assert torch.equal(total, x + residual)
        loss = (y * grad).double().sum() * (uses != "total") + (total * grad_total).double().sum() * (uses != "y")
        loss.backward()
        dx, magnitude, dscale, dscale_magnitude = exact(total, norm.weight, axes, grad)
        on = {"y": (1, 0), "total": (0, 1), "both": (1, 1)}[uses]
        dx = on[0] * dx + on[1] * grad_total.double()
        magnitude = on[0] * magnitude + on[1] * grad_total.double().abs()
        assert torch.equal(x.grad, residual.grad)
        assert_near(x.grad, dx, magnitude)
        assert_near(norm.weight.grad, on[0] * dscale, dscale_magnitude)


@pytest.mark.parametrize("options", [{"rms_epsilon": 0.3}, {"rms_min": 2.0}, {"rms_epsilon": 0.1, "rms_min": 1.0}])
def test_every_epsilon(options) -> None:
    x = rand(50, 33) * torch.linspace(0, 3, 50)[:, None]
    x.requires_grad_()
    norm, grad = module(RMSNorm, (33,), **options), rand(50, 33, seed=2)
    norm(x).backward(grad)
    dx, dx_magnitude, dscale, dscale_magnitude = exact(x, norm.weight, [-1], grad, **options)
    assert_near(x.grad, dx, dx_magnitude)
    assert_near(norm.weight.grad, dscale, dscale_magnitude)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_scale_and_scale_offset(dtype) -> None:
    x, grad = rand(40, 33, dtype=dtype).requires_grad_(), rand(40, 33, seed=2, dtype=dtype)
    y = module(RMSNorm, (33,), scale=False)(x)
    assert is_compiled(y)
    y.backward(grad)
    dx, dx_magnitude, *_ = exact(x, torch.ones(33), [-1], grad)
    assert_near(x.grad, dx, dx_magnitude)
    norm = module(RMSNorm, (33,), scale_offset=1.0, dtype=dtype)
    norm(x.detach()).backward(grad)
    *_, dscale, magnitude = exact(x, 1 + norm.weight.float(), [-1], grad)
    assert_near(norm.weight.grad, dscale, magnitude)


def test_a_scale_of_one_element_gets_the_sum() -> None:
    x, grad, scale = rand(300, 200), rand(300, 200, seed=2), torch.full((1,), 0.7, requires_grad=True)
    plan = torch_kernels.plan_of(x, scale, [-1], 1e-2, 0.0, 0.0, False, False)
    assert plan is not None
    _, dscale = torch_kernels.backward(plan, x, scale, grad)
    *_, expected, magnitude = exact(x, torch.full((200,), 0.7), [-1], grad)
    assert_near(dscale, expected.sum()[None], magnitude.sum()[None])


@pytest.mark.parametrize("kind", [RMSNorm, PartialRMSNorm])
def test_gradcheck_in_float64(kind) -> None:
    norm = kind((5,), *([3] if kind is PartialRMSNorm else []), dtype=torch.float64)
    x = rand(3, 5, dtype=torch.float64).requires_grad_()
    assert not is_compiled(norm(x))
    assert gradcheck(norm, (x,))
    assert torch.autograd.gradgradcheck(norm, (x,))


@pytest.mark.parametrize("factor", [1e-44, 1e-38, 1e-30, 1e-16, 1e16, 1e30, 1e37])
def test_large_and_tiny_values(factor) -> None:
    """The squares of all of these leave float32. Without epsilon, the gradient is that of x / factor, over factor."""
    x = (rand(9, 33, dtype=torch.float64) * factor).float().requires_grad_()
    kept = x.detach().double() / factor  # x itself has rounded, and at 1e-44 lost most of its digits
    for norm in (RMSNorm(33, 0.0), PartialRMSNorm(33, 30, 0.0)):
        x.grad = None
        grad = rand(9, 33, seed=2) * min(1.0, factor * 1e6)
        y = norm(x)
        assert is_compiled(y)
        y.backward(grad)
        dx, magnitude, dscale, dscale_magnitude = exact(
            kept, norm.weight, [-1], grad, getattr(norm, "partial_size", None), 0.0
        )
        assert_near(x.grad, dx / factor, magnitude / factor)
        assert_near(norm.weight.grad, dscale, dscale_magnitude)
        norm.weight.grad = None


@pytest.mark.parametrize(("factor", "gradient"), [(1e12, 1e32), (1e-14, 1e-30)])
def test_a_product_that_float32_cannot_hold(factor, gradient) -> None:
    """sum(g x) overflows, or loses its digits to underflow, where x, g and the result do not."""
    x, grad = (factor * rand(3, 64)).requires_grad_(), gradient * rand(3, 64, seed=2)
    RMSNorm(64, 0.0)(x).backward(grad)
    dx, magnitude, *_ = exact(x, torch.ones(64), [-1], grad, epsilon=0.0)
    assert_near(x.grad, dx, magnitude)


def test_zero_rows_nan_and_infinity() -> None:
    x = rand(6, 40)
    x[1] = 0
    x[2, 3] = float("nan")
    x[4, 5] = float("inf")
    x.requires_grad_()
    norm = module(RMSNorm, (40,))
    grad = rand(6, 40, seed=2)
    norm(x).backward(grad)
    rows = [0, 1, 3, 5]
    dx, magnitude, *_ = exact(x[rows], norm.weight, [-1], grad[rows])
    assert_near(x.grad[rows], dx, magnitude)
    assert x.grad[[2, 4]].isnan().all()
    assert norm.weight.grad.isnan().any()
    zero = torch.zeros(2, 8, requires_grad=True)
    RMSNorm(8, 0.0, rms_epsilon=0.5)(zero).sum().backward()
    assert torch.equal(zero.grad, torch.full((2, 8), 2.0))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_misaligned_and_strided_tensors(dtype) -> None:
    norm = module(RMSNorm, (111,), dtype=dtype)
    memory, gradients = rand(20 * 111 + 3, dtype=dtype), rand(20 * 111 + 3, seed=2, dtype=dtype)
    for offset in (1, 2, 3):
        x = memory[offset:][: 20 * 111].view(20, 111)
        grad = gradients[offset:][: 20 * 111].view(20, 111)
        leaves = [x.clone().requires_grad_(), x.detach().requires_grad_(), x.t().contiguous().t().requires_grad_()]
        assert not leaves[2].is_contiguous()
        grads = [grad.clone(), grad, grad.t().contiguous().t()]
        for leaf, given in zip(leaves, grads, strict=True):
            y = norm(leaf)
            assert y.is_contiguous()
            y.backward(given)
        assert torch.equal(leaves[0].grad, leaves[1].grad)
        assert torch.equal(leaves[0].grad, leaves[2].grad)


def test_an_expanded_gradient() -> None:
    norm, x = module(), rand(6, 96).requires_grad_()
    norm(x).sum().backward()
    dx, magnitude, *_ = exact(x, norm.weight, [-1], torch.ones(6, 96))
    assert_near(x.grad, dx, magnitude)


def test_a_tensor_that_is_a_lazy_negative() -> None:
    norm, x = module(), torch._neg_view(rand(4, 96))
    assert x.is_neg()
    assert torch.equal(norm(x), -norm(rand(4, 96)))


@pytest.mark.parametrize("shape", [(0, 8), (3, 0, 8)])
def test_empty_tensors(shape) -> None:
    x = torch.empty(shape, requires_grad=True)
    norm = RMSNorm(8)
    norm(x).sum().backward()
    assert x.grad.shape == shape
    assert torch.equal(norm.weight.grad, torch.zeros(8))


@pytest.mark.parametrize(
    "wanted", [(True, False, False), (False, True, False), (False, False, True), (True, False, True)]
)
def test_gradients_of_some_inputs(wanted) -> None:
    norm = module(AddRMSNorm)
    inputs = [rand(7, 96), rand(7, 96, seed=5), norm.weight]
    all_of = torch.autograd.grad(norm(*[t.requires_grad_() for t in inputs[:2]])[0].square().sum(), inputs)
    for tensor, wants in zip(inputs, wanted, strict=True):
        tensor.requires_grad_(bool(wants))
    norm(*inputs[:2])[0].square().sum().backward()
    for tensor, wants, expected in zip(inputs, wanted, all_of, strict=True):
        assert (tensor.grad is not None) == wants
        assert not wants or torch.equal(tensor.grad, expected)
    plain = module()
    x = rand(7, 96)
    for wants_x, wants_scale in ((True, False), (False, True)):
        plain.weight.requires_grad_(wants_scale)
        x.grad = plain.weight.grad = None
        plain(x.requires_grad_(wants_x)).sum().backward()
        assert (x.grad is not None, plain.weight.grad is not None) == (wants_x, wants_scale)


# Bits


def outcome(dtype: torch.dtype, shape, norm_shape, axes) -> list[Tensor]:
    norm = module(AddRMSNorm, norm_shape, axes=axes, dtype=dtype)
    x, residual = rand(*shape, dtype=dtype).requires_grad_(), rand(*shape, seed=5, dtype=dtype)
    y, total = norm(x, residual)
    torch.autograd.backward((y, total), (rand(*shape, seed=2, dtype=dtype), rand(*shape, seed=3, dtype=dtype)))
    return [y.detach(), total.detach(), x.grad, norm.weight.grad]


LARGE = [
    ((301, 1111), (1111,), [-1]),
    ((3000, 97), (97,), [-1]),
    ((5, 64, 1100), (64,), [-2]),
    ((3000, 512), (512,), [-1]),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", LARGE, ids=str)
def test_any_number_of_threads_gives_the_same_bits(case, dtype) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = outcome(dtype, *case)
        for count in (2, 3, 8):
            torch.set_num_threads(count)
            assert all(map(torch.equal, outcome(dtype, *case), expected))
    finally:
        torch.set_num_threads(threads)


def test_calls_from_several_threads_at_once() -> None:
    expected = outcome(torch.float32, *LARGE[0])
    wrong: list[int] = []

    def work() -> None:
        wrong.extend(i for i in range(20) if not all(map(torch.equal, outcome(torch.float32, *LARGE[0]), expected)))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


SCRIPT = """
import hashlib, os, sys
import torch
sys.path.insert(0, {folder!r})
from test_torch_kernels import DTYPES, LARGE, SHAPES, outcome

def bits():
    made = [t for case in [*SHAPES, *LARGE] for dtype in DTYPES for t in outcome(dtype, *case)]
    return hashlib.sha256(b"".join(t.view(torch.uint8).numpy().tobytes() for t in made)).hexdigest()
"""


def run(script: str, **environment: str) -> str:
    code = SCRIPT.format(folder=str(Path(__file__).parent)) + script
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_after_a_fork() -> None:
    """A child has none of its parent's threads, and must start its own. It calls nothing of torch that has threads, as
    those of OpenMP do not come back.
    """
    script = """
from rms_deploy.ops import torch_kernels

torch.set_num_threads(3)
x, grad, scale = torch.randn(3000, 512), torch.randn(3000, 512), torch.randn(512)
plan = torch_kernels.plan_of(x, scale, [-1], 1e-6, 0.0, 0.0, False, False)

def bits():
    made = [torch_kernels.forward(plan, x, scale), *torch_kernels.backward(plan, x, scale, grad)]
    return b"".join(tensor.numpy().tobytes() for tensor in made)

def threads():
    return len(os.listdir("/proc/self/task"))

expected = bits()
child = os.fork()
if not child:
    before = threads()
    same = bits() == expected
    os._exit(0 if same and threads() == before + 2 else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert bits() == expected
"""
    run(script)


@pytest.mark.slow
def test_every_instruction_set_level_gives_the_same_bits() -> None:
    info = Path("/proc/cpuinfo").read_text()
    levels = ["", "x86-64-v2"] if " sse4_2" in info else ["", "portable"]  # empty: chosen for each kind of call
    levels += ["avx2"] if " avx2" in info and " fma" in info else []
    levels += ["avx512"] if all(f" avx512{part}" in info for part in ("f", "bw", "dq", "vl")) else []
    assert len({run("print(bits())", RMS_DEPLOY_ISA=level) for level in levels}) == 1


def test_an_unknown_level_is_refused() -> None:
    script = """
from rms_deploy.errors import InputError
try:
    bits()
except InputError as error:
    print(error)
"""
    assert "RMS_DEPLOY_ISA is not" in run(script, RMS_DEPLOY_ISA="sse9")


# What torch does with a module


def test_a_module_used_twice_in_a_graph() -> None:
    norm, x = module(dtype=torch.float32), rand(8, 96).requires_grad_()
    wide = module(dtype=torch.float64)
    wide.weight.data = norm.weight.data.double()
    wide_x = x.detach().double().requires_grad_()
    norm(norm(x) * 3).square().sum().backward()
    wide(wide(wide_x) * 3).square().sum().backward()
    torch.testing.assert_close(x.grad.double(), wide_x.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm.weight.grad.double(), wide.weight.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [RMSNorm, PartialRMSNorm, AddRMSNorm])
def test_double_backward(kind) -> None:
    """Of a gradient penalty, against float64."""
    results = []
    for dtype in (torch.float32, torch.float64):
        norm = module(kind, (96,), *([50] if kind is PartialRMSNorm else []), dtype=dtype)
        x = rand(6, 192)[:, ::2].to(dtype).requires_grad_()
        inputs = (x, x * 0.5) if kind is AddRMSNorm else (x,)
        y = norm(*inputs)
        y = y[0] * y[1] if kind is AddRMSNorm else y
        (dx,) = torch.autograd.grad((y * y * y).sum(), x, create_graph=True)
        results.append(torch.autograd.grad(dx.square().sum(), (x, norm.weight)))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual.double(), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.filterwarnings(
    "ignore:.torch.jit.script. is deprecated:DeprecationWarning"
)  # forward mode in torch uses it
def test_functorch_transforms_and_forward_mode() -> None:
    norm, x, tangent = module(), rand(5, 4, 96), rand(5, 4, 96, seed=7)

    def loss(x):
        return norm(x).square().sum()

    torch.testing.assert_close(torch.vmap(norm)(x), norm(x))
    leaf = x.clone().requires_grad_()
    loss(leaf).backward()
    torch.testing.assert_close(torch.func.grad(loss)(x), leaf.grad)
    torch.testing.assert_close(torch.vmap(torch.func.grad(loss))(x), leaf.grad)
    _, along = torch.func.jvp(loss, (x,), (tangent,))
    torch.testing.assert_close(along, (leaf.grad * tangent).sum())
    with forward_ad.dual_level():
        along = forward_ad.unpack_dual(loss(forward_ad.make_dual(x, tangent))).tangent
    torch.testing.assert_close(along, (leaf.grad * tangent).sum())
    y = norm(leaf)
    basis = torch.stack([torch.ones_like(y), y.detach()])
    (batched,) = torch.autograd.grad(y, leaf, basis, is_grads_batched=True, retain_graph=True)
    for i in range(2):
        torch.testing.assert_close(batched[i], torch.autograd.grad(y, leaf, basis[i], retain_graph=True)[0])


def test_compile() -> None:
    """Traced whole as the registered op; the result and gradients are those of eager mode."""
    norm, add, x = module(), module(AddRMSNorm), rand(8, 96).requires_grad_()

    def step(x):
        y, total = add(norm(x), x)
        return (y * total).sum()

    step(x).backward()
    expected = x.grad, norm.weight.grad, add.weight.grad
    x.grad = norm.weight.grad = add.weight.grad = None
    torch.compile(step, backend="aot_eager", fullgraph=True)(x).backward()
    for actual, wanted in zip((x.grad, norm.weight.grad, add.weight.grad), expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-5)


def test_autocast() -> None:
    """A float32 weight with what autocast made bfloat16 of: no cast is added, as S may be float32."""
    norm, linear = module(), torch.nn.Linear(96, 96)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = linear(rand(8, 96))
        y = norm(x)
    assert x.dtype == y.dtype == torch.bfloat16
    assert is_compiled(y)
    y.float().square().sum().backward()
    assert norm.weight.grad.dtype == torch.float32
    assert linear.weight.grad.dtype == torch.float32


def test_the_op_computes_the_same() -> None:
    norm, x, grad = module(), rand(8, 96).requires_grad_(), rand(8, 96, seed=2)
    arguments = (norm.axes, norm.epsilon, 0.0, 0.0, False)
    ours = torch.autograd.grad(norm(x), (x, norm.weight), grad)
    y = torch.ops.rms_deploy.rms_norm(x, norm.weight, *arguments)
    assert all(map(torch.equal, torch.autograd.grad(y, (x, norm.weight), grad), ours))


def test_what_the_library_does_not_serve_runs_in_operators() -> None:
    class Subclass(torch.Tensor):
        pass

    options = ([-1], 1e-6, 0.0, 0.0, False, False)
    x, scale = rand(4, 8), torch.ones(8)
    assert torch_kernels.plan_of(x, scale, *options) is not None
    refused = [
        (x.double(), scale),
        (x, scale.double()),
        (x.half(), scale.bfloat16()),
        (x, scale.half()),
        (x.to("meta"), scale.to("meta")),
        (x.as_subclass(Subclass), scale),
        (x[:0], scale),
        (x.view(4, 2, 4), torch.ones(2, 1)),
    ]
    for given in refused:
        assert torch_kernels.plan_of(*given, *options) is None
    assert torch_kernels.plan_of(x, scale, [-1], 1e-50, 0.0, 0.0, False, False) is None  # 0 in float32
    assert torch_kernels.plan_of(rand(2, 3, 4), torch.ones(4), [-2, -1], 1e-6, 0.0, 0.0, False, False) is None
    assert RMSNorm(8, dtype=torch.float64)(x.double()).dtype == torch.float64
    assert RMSNorm(8, device="meta")(x.to("meta")).is_meta


def test_without_the_library(monkeypatch) -> None:
    norm, x = module(), rand(8, 96).requires_grad_()
    expected = torch.autograd.grad(norm(x).square().sum(), (x, norm.weight))
    torch_kernels._plan.cache_clear()
    monkeypatch.setattr(torch_kernels, "_library", lambda: None)
    try:
        y = norm(x)
        assert not is_compiled(y)
        for actual, wanted in zip(torch.autograd.grad(y.square().sum(), (x, norm.weight)), expected, strict=True):
            torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-5)
    finally:
        torch_kernels._plan.cache_clear()


def test_the_memory_of_a_training_step_is_its_tensors() -> None:
    """x is kept for the backward pass, and nothing else."""
    norm, x = module(), rand(64, 96).requires_grad_()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        norm(x)
    assert [tensor.data_ptr() for tensor in kept] == [x.data_ptr(), norm.weight.data_ptr()]
