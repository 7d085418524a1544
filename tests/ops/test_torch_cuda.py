"""The compiled norms on an NVIDIA GPU, through torch: forward and gradients against float64, and how torch calls them.

Without a GPU, the calls alone run, on the stand-in for the driver.
"""

from __future__ import annotations

import ctypes
from contextlib import nullcontext

import pytest
import torch

from rms_deploy.nn import AddRMSNorm, PartialRMSNorm, RMSNorm
from rms_deploy.ops import torch_cuda, torch_kernels, torch_ops

from ..plugins.kernels.cuda.compiling import PLUGINS, kernels_for_cpu
from .test_torch_kernels import DTYPES, TYPES, assert_near, exact, is_compiled, module, rand

GPU = "cuda"
OPTIONS = (1e-2, 0.0, 0.0, False, False)


def gpu(test):
    """Marks a test that runs on a GPU."""
    reason = "no NVIDIA GPU that torch can use"
    return pytest.mark.gpu(pytest.mark.skipif(not torch.cuda.is_available(), reason=reason)(test))


# rows, n: rows that share a block, that have one, that are read element by element; the longest that a block holds.
SHAPES = [
    *(
        (1, 1),
        (5, 1),
        (21, 7),
        (300, 8),
        (37, 64),
        (7, 111),
        (1000, 128),
        (130, 96),
        (64, 1000),
        (33, 1024),
        (20, 1111),
    ),
    *((600, 4096), (9, 4097), (5, 8192), (3, 16384), (3, 16400), (2, 70001), (0, 64)),
]


def outcome(norm, dtype, rows, n, *, seed=0, device=GPU):
    """What a step of training makes: results and gradients, by name, and the inputs."""
    x, residual = (rand(rows, n, seed=seed + i, dtype=dtype).to(device).requires_grad_() for i in (0, 5))
    grads = [rand(rows, n, seed=seed + i, dtype=dtype).to(device) for i in (2, 3)]
    norm.weight.grad = None
    if isinstance(norm, AddRMSNorm):
        y, total = norm(x, residual)
        torch.autograd.backward((y, total), grads)
    else:
        y, total = norm(x), None
        y.backward(grads[0])
    assert x.numel() == 0 or is_compiled(y), "torch's operators ran"
    made = {"y": y.detach(), "grad_x": x.grad, "grad_scale": norm.weight.grad}
    return made if total is None else {**made, "total": total.detach()}


def check(norm, dtype, rows, n, *, seed=0):
    """One step on the GPU against float64: y by the CPU's kernels, and gradients by the formula."""
    made = {name: tensor.cpu() for name, tensor in outcome(norm, dtype, rows, n, seed=seed).items()}
    if rows == 0:
        assert torch.equal(made["grad_scale"], torch.zeros_like(made["grad_scale"]))
        return
    x, grad = (rand(rows, n, seed=seed + i, dtype=dtype) for i in (0, 2))
    is_add = isinstance(norm, AddRMSNorm)
    if is_add:
        x = x + rand(rows, n, seed=seed + 5, dtype=dtype)
        assert torch.equal(made["total"], x)
    wide = norm.weight.detach().cpu().double()
    first = x.double()[:, : norm.partial_size]
    rms = (first.square().mean(-1, keepdim=True) + norm.epsilon).sqrt()
    y = x.double() / rms * wide
    # Rounding once or twice to dtype, and 32 roundings of float32: see the derivation of assert_near.
    eps = torch.finfo(dtype).eps
    bound = (1.5 * eps if norm.round_before_scale and dtype != torch.float32 else eps / 2) + 32 * 2.0**-24
    assert ((made["y"].double() - y).abs() <= 1.01 * bound * y.abs() + torch.finfo(dtype).smallest_normal).all()
    dx, dx_magnitude, dscale, dscale_magnitude = exact(x, norm.weight.detach().cpu(), [-1], grad, norm.partial_size)
    if is_add:
        grad_total = rand(rows, n, seed=seed + 3, dtype=dtype).double()
        dx, dx_magnitude = dx + grad_total, dx_magnitude + grad_total.abs()
    assert_near(made["grad_x"], dx, dx_magnitude)
    assert_near(made["grad_scale"], dscale, dscale_magnitude)


@gpu
def test_the_kernels_run_here():
    library = torch_kernels._library()
    assert library is not None
    assert torch_cuda.is_ready(library, torch.cuda.current_device())


@gpu
@pytest.mark.parametrize("types", TYPES, ids=str)
@pytest.mark.parametrize(("rows", "n"), SHAPES, ids=str)
def test_rms_norm(rows, n, types):
    check(module(RMSNorm, (n,), dtype=types[1]).to(GPU), types[0], rows, n)


@gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "n"), SHAPES, ids=str)
def test_add_rms_norm(rows, n, dtype):
    check(module(AddRMSNorm, (n,), dtype=dtype).to(GPU), dtype, rows, n)


@gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "n"), [(37, 64), (7, 111), (33, 1024), (9, 4097), (3, 16400)], ids=str)
def test_partial_rms_norm(rows, n, dtype):
    for size in (3, n // 16 + 1, n // 2, n):
        check(module(PartialRMSNorm, (n,), size, dtype=dtype).to(GPU), dtype, rows, n, seed=size)


@gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n", [64, 111, 1024])
def test_misaligned_and_strided_tensors(n, dtype):
    norm = module(RMSNorm, (n,), dtype=dtype).to(GPU)
    memory, gradients = (rand(20 * n + 3, seed=i, dtype=dtype).to(GPU) for i in (0, 2))
    for offset in (1, 2, 3):
        x, grad = (tensor[offset:][: 20 * n].view(20, n) for tensor in (memory, gradients))
        dx, dx_magnitude, dscale, dscale_magnitude = exact(x.cpu(), norm.weight.detach().cpu(), [-1], grad.cpu())
        for leaf, given in ((x, grad), (x.t().contiguous().t(), grad.t().contiguous().t())):
            norm.weight.grad = None
            leaf = leaf.detach().requires_grad_()  # the same memory
            norm(leaf).backward(given)
            assert_near(leaf.grad.cpu(), dx, dx_magnitude)
            assert_near(norm.weight.grad.cpu(), dscale, dscale_magnitude)


@gpu
@pytest.mark.parametrize("factor", [1e-38, 1e-30, 1e-16, 1e16, 1e30, 1e37])
def test_large_and_tiny_values(factor):
    x = (rand(9, 64, dtype=torch.float64) * factor).float()
    for n in (64, 33):
        leaf, grad = x[:, :n].contiguous().to(GPU).requires_grad_(), rand(9, n, seed=2) * min(1.0, factor * 1e6)
        norm = RMSNorm(n, 0.0).to(GPU)
        norm(leaf).backward(grad.to(GPU))
        kept = x[:, :n].double() / factor
        dx, magnitude, dscale, dscale_magnitude = exact(kept, torch.ones(n), [-1], grad, epsilon=0.0)
        assert_near(leaf.grad.cpu(), dx / factor, magnitude / factor)
        assert_near(norm.weight.grad.cpu(), dscale, dscale_magnitude)


@gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "n"), [(4096, 1024), (4096, 128), (1000, 1111), (20, 70001)], ids=str)
def test_the_same_bits_in_every_run(rows, n, dtype):
    norm = module(AddRMSNorm, (n,), dtype=dtype).to(GPU)
    first = outcome(norm, dtype, rows, n)
    for _ in range(3):
        again = outcome(norm, dtype, rows, n)
        assert all(torch.equal(again[name], tensor) for name, tensor in first.items())


@gpu
@pytest.mark.parametrize("n", [1024, 1111])
def test_on_a_stream_and_in_a_graph(n):
    """The kernels are on torch's current stream: a stream that waits sees what was enqueued before it."""
    norm = module(RMSNorm, (n,), dtype=torch.bfloat16).to(GPU)
    expected = outcome(norm, torch.bfloat16, 300, n)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            aside = outcome(norm, torch.bfloat16, 300, n)
    torch.cuda.current_stream().wait_stream(stream)
    assert all(torch.equal(aside[name], tensor) for name, tensor in expected.items())
    x, grad = (rand(300, n, seed=i, dtype=torch.bfloat16).to(GPU) for i in (0, 2))
    other = torch.zeros_like(x).requires_grad_()
    graph = torch.cuda.CUDAGraph()
    norm.weight.grad = None
    with torch.cuda.graph(graph):
        y = norm(other)
        assert is_compiled(y)
        grads = torch.autograd.grad(y, (other, norm.weight), grad)
    with torch.no_grad():
        other.copy_(x)
    graph.replay()
    torch.cuda.synchronize()
    for actual, name in ((y, "y"), (grads[0], "grad_x"), (grads[1], "grad_scale")):
        assert torch.equal(actual, expected[name]), name


@gpu
def test_gradients_of_some_inputs_and_no_scale():
    norm, x = module(RMSNorm, (96,)).to(GPU), rand(40, 96).to(GPU)
    grad = rand(40, 96, seed=2).to(GPU)
    expected = outcome(norm, torch.float32, 40, 96)
    for wants_x, wants_scale in ((True, False), (False, True)):
        norm.weight.requires_grad_(wants_scale)
        norm.weight.grad = None
        leaf = x.clone().requires_grad_(wants_x)
        norm(leaf).backward(grad)
        assert (leaf.grad is not None, norm.weight.grad is not None) == (wants_x, wants_scale)
        assert not wants_x or torch.equal(leaf.grad, expected["grad_x"])
        assert not wants_scale or torch.equal(norm.weight.grad, expected["grad_scale"])
    leaf = x.clone().requires_grad_()
    plain = RMSNorm(96, 1e-2, scale=False).to(GPU)
    plain(leaf).backward(grad)
    dx, magnitude, *_ = exact(x.cpu(), torch.ones(96), [-1], grad.cpu())
    assert_near(leaf.grad.cpu(), dx, magnitude)


@gpu
def test_a_scale_of_one_element_gets_the_sum():
    x, grad, scale = rand(300, 200).to(GPU), rand(300, 200, seed=2).to(GPU), torch.full((1,), 0.7, device=GPU)
    plan = torch_kernels.plan_of(x, scale, [-1], *OPTIONS)
    assert plan is not None
    _, dscale = torch_kernels.backward(plan, x, scale, grad)
    *_, expected, magnitude = exact(x.cpu(), torch.full((200,), 0.7), [-1], grad.cpu())
    assert_near(dscale.cpu(), expected.sum()[None], magnitude.sum()[None])


@gpu
def test_autocast():
    """A float32 weight with what autocast made bfloat16 of: no cast is added."""
    norm, linear = module(RMSNorm, (96,)).to(GPU), torch.nn.Linear(96, 96).to(GPU)
    with torch.autocast(GPU, dtype=torch.bfloat16):
        x = linear(rand(8, 96).to(GPU))
        y = norm(x)
    assert x.dtype == y.dtype == torch.bfloat16
    assert is_compiled(y)
    y.float().square().sum().backward()
    assert norm.weight.grad.dtype == torch.float32
    assert norm.weight.grad.isfinite().all()


@gpu
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compile(backend):
    norm, add, x = module().to(GPU), module(AddRMSNorm).to(GPU), rand(8, 96).to(GPU).requires_grad_()

    def step(x):
        y, total = add(norm(x), x)
        return (y * total).sum()

    step(x).backward()
    expected = x.grad, norm.weight.grad, add.weight.grad
    x.grad = norm.weight.grad = add.weight.grad = None
    torch.compile(step, backend=backend, fullgraph=True)(x).backward()
    for actual, wanted in zip((x.grad, norm.weight.grad, add.weight.grad), expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-4)


@gpu
def test_double_backward_and_transforms():
    norm, wide = module(RMSNorm, (96,)).to(GPU), module(RMSNorm, (96,), dtype=torch.float64).to(GPU)
    results = []
    for one, dtype in ((norm, torch.float32), (wide, torch.float64)):
        x = rand(6, 96, dtype=dtype).to(GPU).requires_grad_()
        (dx,) = torch.autograd.grad((one(x) ** 3).sum(), x, create_graph=True)
        results.append(torch.autograd.grad(dx.square().sum(), (x, one.weight)))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual.double(), expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())
    x = rand(5, 4, 96).to(GPU)
    torch.testing.assert_close(torch.vmap(norm)(x), norm(x))


@gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_channel_norms_run_in_torchs_operators(dtype):
    norm = module(RMSNorm, (6,), axes=[-3], dtype=dtype).to(GPU)
    x = rand(3, 6, 5, 3, dtype=dtype)
    leaf, grad = x.to(GPU).requires_grad_(), rand(3, 6, 5, 3, seed=2, dtype=dtype)
    y = norm(leaf)
    assert not is_compiled(y)
    y.backward(grad.to(GPU))
    dx, magnitude, *_ = exact(x, norm.weight.detach().cpu(), [-3], grad)
    assert_near(leaf.grad.cpu(), dx, magnitude)


@gpu
def test_a_tensor_on_another_device_is_refused():
    norm = module(RMSNorm, (96,))
    with pytest.raises(RuntimeError, match="device"):
        norm(rand(4, 96).to(GPU))


# Without a GPU


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """The library's functions for a GPU, on the stand-in for the driver."""
    library = ctypes.CDLL(str(kernels_for_cpu(tmp_path_factory.mktemp("torch") / "on_cpu.so", PLUGINS)))
    torch_cuda.declare(library)
    assert library.rms_deploy_torch_cuda_prepare() == 0
    return library


@pytest.fixture
def plan_of(stand_in, monkeypatch):
    """The plan of a GPU, for tensors in the memory of the CPU, which is that of the stand-in."""
    monkeypatch.setattr(torch_kernels, "_library", lambda: stand_in)
    monkeypatch.setattr(torch_cuda, "on_device", lambda _: nullcontext())
    monkeypatch.setattr(torch_cuda, "stream", lambda _: None)

    def plan(x, scale, *, axes=(-1,), partial_size=None):
        options = (tuple(axes), *OPTIONS, partial_size)
        return torch_kernels._plan.__wrapped__(x.shape, x.dtype, scale.shape, scale.dtype, options, 0)

    return plan


@pytest.mark.slow  # it compiles the library
@pytest.mark.parametrize("types", TYPES, ids=str)
@pytest.mark.parametrize(("rows", "n", "size"), [(7, 64, None), (5, 111, 30), (3, 1024, 500)], ids=str)
def test_the_calls(plan_of, rows, n, size, types):
    x, residual, grad, grad_total = (rand(rows, n, seed=i, dtype=types[0]) for i in range(4))
    scale = rand(n, seed=9, dtype=types[1])
    plan = plan_of(x, scale, partial_size=size)
    y, total = torch_kernels.forward_of_sum(plan, x, residual, scale)
    assert torch.equal(total, x + residual)
    assert torch.equal(torch_kernels.forward(plan, total, scale), y)
    wanted = torch_ops._forward(total.double(), scale.double(), [-1], *OPTIONS, size)
    torch.testing.assert_close(y.double(), wanted, rtol=torch.finfo(types[0]).eps, atol=1e-6)
    dx, dx_magnitude, dscale, dscale_magnitude = exact(total, scale, [-1], grad, size)
    grad_x, grad_scale = torch_kernels.backward(plan, total, scale, grad, grad_total)
    assert_near(grad_x, dx + grad_total.double(), dx_magnitude + grad_total.double().abs())
    assert_near(grad_scale, dscale, dscale_magnitude)
    only_x, nothing = torch_kernels.backward(plan, total, scale, grad, grad_total, wants_scale=False)
    assert nothing is None
    assert torch.equal(only_x, grad_x)


@pytest.mark.slow
def test_axes_before_the_last_have_no_plan(plan_of):
    assert plan_of(rand(2, 3, 4), rand(3, 1), axes=(-2,)) is None
    assert plan_of(rand(2, 3, 4), rand(4)) is not None


@pytest.mark.slow
def test_an_error_of_the_driver_says_what_it_is(stand_in):
    with pytest.raises(RuntimeError, match="CUDA: invalid argument"):
        torch_cuda.check(stand_in, 1)


def test_a_library_without_cuda_serves_no_gpu():
    torch_cuda.declare(object())
    assert not torch_cuda.is_ready(object(), 0)
