"""What the probe finds in modules whose code it does not know, and what it refuses."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from rms_deploy.exporter.norm_probe import NotReplaceableError, probe

HALF = [torch.float16, torch.bfloat16]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class Norm(nn.Module):
    """A norm as someone might write it: `code(x, weight)`."""

    def __init__(self, code, size: int | tuple[int, ...] = 48) -> None:
        super().__init__()
        self.code = code
        self.gain = nn.Parameter(torch.randn(size))

    def forward(self, x: Tensor) -> Tensor:
        return self.code(x, self.gain)


def root(x: Tensor, epsilon: float = 1e-5, dim: int | tuple[int, ...] = -1) -> Tensor:
    return torch.sqrt(x.pow(2).mean(dim, keepdim=True) + epsilon)


def llama(x: Tensor, w: Tensor) -> Tensor:
    return w * (x.float() / root(x.float())).to(x.dtype)


def once(x: Tensor, w: Tensor) -> Tensor:
    return (x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-5) * w.float()).to(x.dtype)


def gemma(x: Tensor, w: Tensor) -> Tensor:
    return (x.float() / root(x.float()) * (1 + w.float())).to(x.dtype)


def assert_same(module: nn.Module, lead: tuple[int, ...] = (7, 11)) -> None:
    """Equal but for float32 statistics: 4 ulp, or another rounding in fewer than 1 of 100 half-precision results."""
    norm = probe(module)
    weight = next(module.parameters(), torch.ones(norm.shape))
    x = torch.randn(*lead, *norm.shape)
    x[0] *= 1e-3  # shows the epsilon
    x = x.to(weight.dtype)
    expected, actual = module(x), norm(x)
    assert actual.dtype == expected.dtype
    if x.dtype in HALF:
        assert float((actual == expected).float().mean()) > 0.99
    torch.testing.assert_close(actual, expected, rtol=4 * torch.finfo(x.dtype).eps, atol=0)


def reciprocal(x: Tensor, w: Tensor) -> Tensor:
    return x * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-5).to(x.dtype) * w


@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
@pytest.mark.parametrize(
    ("code", "offset", "order"),
    [
        (llama, 0.0, (True, False)),
        (once, 0.0, (False, False)),
        (gemma, 1.0, (False, False)),
        (reciprocal, 0.0, (True, True)),
    ],
)
def test_finds_offset_and_rounding_order(code, offset, order, dtype) -> None:
    module = Norm(code).to(dtype)
    norm = probe(module)
    assert (norm.scale_offset, norm.round_before_scale, norm.round_reciprocal) == (offset, *order)
    assert norm.epsilon == pytest.approx(1e-5, rel=1e-6)
    assert norm.weight is module.gain
    assert_same(module)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (lambda x, w: x / root(x, 0.0) * w, (0.0, 0.0, 0.0)),
        (lambda x, w: x / root(x, 1e-12) * w, (1e-12, 0.0, 0.0)),
        (lambda x, w: x / root(x, 3e-3) * w, (3e-3, 0.0, 0.0)),
        (lambda x, w: x / (root(x, 0.0) + 1e-8) * w, (0.0, 1e-8, 0.0)),
        (lambda x, w: x / root(x, 0.0).clamp(min=1e-3) * w, (0.0, 0.0, 1e-3)),
        (lambda x, w: F.normalize(x, dim=-1) * 48**0.5 * w, (0.0, 0.0, 1e-12 * 48**-0.5)),
        (lambda x, w: F.normalize(x, dim=-1) * 48**0.5 * (w + 1), (0.0, 0.0, 1e-12 * 48**-0.5)),
    ],
)
def test_finds_the_epsilon_and_its_place(code, expected) -> None:
    module = Norm(code)
    norm = probe(module)
    assert (norm.epsilon, norm.rms_epsilon, norm.rms_min) == pytest.approx(expected, rel=1e-6)
    assert_same(module)


@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
@pytest.mark.parametrize("eps", [1e-5, None])
def test_torchs_own(eps, dtype) -> None:
    module = nn.RMSNorm(48, eps=eps, dtype=dtype)
    with torch.no_grad():
        module.weight.normal_()
    norm = probe(module)
    # Whatever the dtype: torch computes in float32, and takes its epsilon where none is given.
    assert norm.epsilon == (eps or torch.finfo(torch.float32).eps)
    assert not norm.round_before_scale
    assert_same(module)
    assert_same(nn.RMSNorm(48, eps=eps, elementwise_affine=False))
    assert_same(nn.RMSNorm((6, 8), eps=eps, dtype=dtype))


def test_probing_changes_nothing() -> None:
    module = Norm(llama).train()
    before = module.gain.detach().clone()
    state = torch.random.get_rng_state()
    assert probe(module).training
    assert torch.equal(module.gain, before)
    assert module.gain.grad is None
    assert torch.equal(torch.random.get_rng_state(), state)


def test_float32_module_with_other_half_precision_code_is_accepted_in_float32_only() -> None:
    def half_statistics(x: Tensor, w: Tensor) -> Tensor:
        return x / root(x) * w

    assert_same(Norm(half_statistics))
    with pytest.raises(NotReplaceableError, match="in float16 its rounding is no order"):
        probe(Norm(half_statistics).half())


class Gated(Norm):
    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        return llama(x if gate is None else x * gate, self.gain)


class GatedOrNot(Gated):
    def forward(self, *tensors: Tensor) -> Tensor:
        return super().forward(*tensors)


class WithBias(Norm):
    def __init__(self) -> None:
        super().__init__(llama)
        self.bias = nn.Parameter(torch.zeros(48))


def hooked() -> nn.Module:
    module = Norm(llama)
    module.register_forward_hook(lambda *_: None)
    return module


def weightless() -> nn.Module:
    module = Norm(lambda x, _: x / root(x))
    del module.gain
    module.gain = None
    return module


def grouped(x: Tensor, w: Tensor) -> Tensor:
    return w * (x.unflatten(-1, (4, -1)) / root(x.unflatten(-1, (4, -1)))).flatten(-2)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Gated(llama), r"its forward takes \(x, gate\)"),
        (GatedOrNot(llama), r"its forward takes \(\*tensors\)"),
        (WithBias(), r"it has 2 parameters \(gain, bias\)"),
        (hooked(), "it has hooks"),
        (weightless(), "its size is not known"),
        (nn.utils.parametrizations.weight_norm(Norm(llama, (4, 12)), "gain"), "parameters|submodules|parametrized"),
        (Norm(llama, (1, 48)), r"its weight has shape \[1, 48\]"),
        (Norm(grouped), "one r for each row"),
        (Norm(lambda x, w: F.layer_norm(x, (48,)) * w), "one r for each row"),
        (Norm(lambda x, w: x / root(x) * w.exp()), "one r for each row"),
        (Norm(lambda x, w: x / x.norm(dim=-1, keepdim=True) * w), "root mean square of the whole row"),
        (Norm(lambda x, w: x / root(x[..., :24]) * w), "root mean square of the whole row"),
        (Norm(lambda x, w: x / (root(x, 1e-5) + 2e-3) * w), "its epsilon is neither"),
        (Norm(lambda x, w: F.normalize(x, dim=-1 if x.ndim < 4 else 1) * 48**0.5 * w), "for tensors of rank 4"),
        (Norm(lambda x, w: llama(x, w).double()), "not one tensor of the shape and dtype"),
        (Norm(lambda x, w: (llama(x, w), x)), "not one tensor of the shape and dtype"),
        (Norm(lambda x, w: x @ w), "not one tensor of the shape and dtype"),
        (Norm(lambda x, w: x @ w.reshape(3, 16)), "it cannot be run alone: RuntimeError"),
        (Norm(llama, ()), r"its weight has shape \[\]"),
    ],
)
def test_refusals(module, reason) -> None:
    with pytest.raises(NotReplaceableError, match=reason):
        probe(module)
