"""The ops of the contract as torch custom ops, `torch.ops.rms_deploy.*`, with their gradients in closed form.

With m the mean of x^2 over the first k of the n normalised elements (k = n but for the partial op):

    s = sqrt(m + epsilon)      r = max(s + rms_epsilon, rms_min)      u = x / r      y = scale * u

and with g = scale * dL/dy, the gradients are

    dL/dx_i   = (g_i - c_i * x_i / (k s) * sum_j(g_j u_j)) / r      j over all n; c_i is 1 for i < k, else 0
    dL/dscale = sum(u * dL/dy)                                      over what scale was broadcast along

and the two summands of the add op each get dL/dx + dL/dsum. Where `rms_min` is the larger, r is constant (c = 0), and
so it is at s = 0, where 0 is taken from the subdifferential. Rounding does not enter: as in autograd, a cast has
gradient 1.

Everything is computed in float32, or in float64 if x is float64, on whatever device the tensors are: by the compiled
library where it serves, else in torch's own operators.

Source: Zhang and Sennrich, Root Mean Square Layer Normalization, 2019: equation 4, section 4.2 (gradients) and
section 5 (pRMSNorm); the three epsilons are worked in by us.
"""

from __future__ import annotations

from rms_deploy.ops import torch_check  # noqa: F401 - first: it says what is missing

# isort: split
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rms_deploy.errors import InputError
from rms_deploy.ops import torch_kernels
from rms_deploy.ops.axes import normalized_axes
from rms_deploy.ops.scale_shape import broadcasts

__all__ = ["add_rms_norm", "partial_rms_norm", "rms_norm"]


_LARGE = 1e15
"""Below it, float32 holds the sum of the squares of 10^8 elements."""

_HALF = (torch.float16, torch.bfloat16)

_SMALL = 1e-15
"""Above it, a square is a normal float32 number, and so is that of an element 10^4 times smaller."""


class _Block(NamedTuple):
    """x seen as (outer, n, inner), and how many of the n elements the mean is over."""

    outer: int
    n: int
    inner: int
    k: int

    @classmethod
    def of(cls, x: Tensor, axes: Sequence[int], partial_size: int | None) -> _Block:
        block = normalized_axes(axes, x.ndim)
        first, last = block[0], block[-1] + 1
        outer, n, inner = (math.prod(part) for part in (x.shape[:first], x.shape[first:last], x.shape[last:]))
        if partial_size is not None and not 1 <= partial_size <= n:
            raise InputError(f"partial_size: {partial_size} is not in 1 ... {n}, the number of normalised elements")
        return cls(outer, n, inner, n if partial_size is None else partial_size)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


class _Row(NamedTuple):
    """The input and its statistics, each divided by `unit`: x is (outer, n, inner), the others (outer, 1, inner).

    In the formula at the top, s is root * unit, and r is rms * unit. `unbounded`: where r is not `rms_min`.
    """

    x: Tensor
    unit: Tensor
    root: Tensor
    rms: Tensor
    unbounded: Tensor

    @classmethod
    def of(cls, x: Tensor, k: int, epsilon: float, rms_epsilon: float, rms_min: float) -> _Row:
        """Statistics of the first k elements.

        A row whose squares could leave float32 has as its unit the largest of what enters r; the others have 1, which
        is exact.
        """
        if not k:
            root = x.new_zeros((x.shape[0], 1, x.shape[2]))
            rms = torch.clamp(root + rms_epsilon, min=rms_min)
            return cls(x, torch.ones_like(root), root, rms, torch.zeros_like(root, dtype=torch.bool))
        peak = x[:, :k].detach().abs().amax(1, keepdim=True)
        largest = peak.clamp(min=max(math.sqrt(epsilon), rms_epsilon, rms_min))
        leaves = ((largest > _LARGE) & torch.isfinite(largest)) | ((largest > 0) & (largest < _SMALL))
        unit = torch.where(leaves, largest, 1.0)
        scaled = x / unit
        # Tensors: a number divided by a tensor is multiplied by its reciprocal, which is infinite below 2^-128.
        root_epsilon, added, bound = (
            torch.full_like(unit, value) / unit for value in (math.sqrt(epsilon), rms_epsilon, rms_min)
        )
        inside = torch.where(leaves, root_epsilon.square(), epsilon)
        root = torch.sqrt(scaled[:, :k].square().mean(1, keepdim=True) + inside)
        return cls(scaled, unit, root, torch.maximum(root + added, bound), root + added > bound)


def _forward(
    x: Tensor,
    scale: Tensor,
    axes: Sequence[int],
    epsilon: float,
    rms_epsilon: float,
    rms_min: float,
    round_before_scale: bool,
    round_reciprocal: bool,
    partial_size: int | None = None,
) -> Tensor:
    block = _Block.of(x, axes, partial_size)
    if not broadcasts(scale.shape, x.shape):
        raise InputError(f"scale: shape {list(scale.shape)} does not broadcast to that of x, {list(x.shape)}")
    row = _Row.of(_wide(x).reshape(block[:3]), block.k, epsilon, rms_epsilon, rms_min)
    if round_before_scale and round_reciprocal and x.dtype in _HALF:
        inverse = (1 / row.rms / row.unit).to(x.dtype)
        normed = (x.reshape(block[:3]) * inverse).reshape(x.shape)
    else:
        normed = (row.x / row.rms).reshape(x.shape)
    if round_before_scale:
        return (normed.to(x.dtype) * scale.to(x.dtype)).contiguous()
    return (normed * scale.to(normed.dtype)).to(x.dtype).contiguous()


def _backward(
    grad: Tensor,
    x: Tensor,
    scale: Tensor,
    axes: Sequence[int],
    epsilon: float,
    rms_epsilon: float,
    rms_min: float,
    partial_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """(dL/dx, dL/dscale), by the formula at the top."""
    block = _Block.of(x, axes, partial_size)
    row = _Row.of(_wide(x).reshape(block[:3]), block.k, epsilon, rms_epsilon, rms_min)
    normed = row.x / row.rms
    grad_wide = grad.to(normed.dtype)
    grad_scale = (grad_wide * normed.reshape(x.shape)).sum_to_size(scale.shape).to(scale.dtype)
    grad_normed = (grad_wide * scale.to(normed.dtype)).reshape(block[:3])
    share = (grad_normed * normed).sum(1, keepdim=True) / max(block.k, 1)
    varies = row.unbounded & (row.root > 0)
    along = torch.where(varies, row.x[:, : block.k] / row.root * share, 0.0)
    if block.k < block.n:
        along = torch.nn.functional.pad(along, (0, 0, 0, block.n - block.k))
    return ((grad_normed - along) / row.rms / row.unit).reshape(x.shape).to(x.dtype), grad_scale


def _computed(x: Tensor, scale: Tensor, *options: Any) -> Tensor:
    """`_forward`, by the compiled library where it serves."""
    plan = torch_kernels.plan_of(x, scale, *options)
    if plan is None:
        return _forward(x, scale, *options)
    return torch_kernels.forward(plan, x.contiguous(), scale.contiguous())


def _gradients(
    grad: Tensor,
    x: Tensor,
    scale: Tensor,
    axes: Sequence[int],
    epsilon: float,
    rms_epsilon: float,
    rms_min: float,
    partial_size: int | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """`_backward`, by the compiled library where it serves: not where these are differentiated in turn."""
    plan = torch_kernels.plan_of(x, scale, axes, epsilon, rms_epsilon, rms_min, False, False, partial_size)
    if plan is None or torch.is_grad_enabled() or not torch_kernels.is_plain(grad):
        return _backward(grad, x, scale, axes, epsilon, rms_epsilon, rms_min, partial_size)
    return torch_kernels.backward(plan, x.contiguous(), scale.contiguous(), grad)


@torch.library.custom_op("rms_deploy::rms_norm", mutates_args=())
def rms_norm(
    x: Tensor,
    scale: Tensor,
    axes: list[int],
    epsilon: float,
    rms_epsilon: float,
    rms_min: float,
    round_before_scale: bool,
    round_reciprocal: bool = False,
) -> Tensor:
    """y = scale * x / max(sqrt(mean(x^2 over axes) + epsilon) + rms_epsilon, rms_min)

    Args:
        x: float32, float16, bfloat16 (or float64, computed in float64), any shape.
        scale: any shape that broadcasts to x; x's dtype or float32. The compiled library takes one element, or n in a
            shape that is 1 outside the axes; the ONNX ops take what `scale_shape` says.
        axes: contiguous block of axes.
        epsilon: added to the mean square, inside the root.
        rms_epsilon: added to the root.
        rms_min: lower bound of the root.
        round_before_scale: False: rounded once, at the end. True: x / rms and scale are rounded to x's dtype, then
            their product is.
        round_reciprocal: with it, 1 / rms is rounded to x's dtype, then its product with x is, and x / rms is that.

    Returns:
        y, shape and dtype of x.

    Raises:
        InputError: the axes are out of range or not one block, or the scale does not broadcast to x.
    """
    return _computed(x, scale, axes, epsilon, rms_epsilon, rms_min, round_before_scale, round_reciprocal)


@torch.library.custom_op("rms_deploy::partial_rms_norm", mutates_args=())
def partial_rms_norm(
    x: Tensor,
    scale: Tensor,
    partial_size: int,
    axes: list[int],
    epsilon: float,
    rms_epsilon: float,
    rms_min: float,
    round_before_scale: bool,
    round_reciprocal: bool = False,
) -> Tensor:
    """As `rms_norm`, with the mean over the first `partial_size` elements of the block in row-major order.

    Raises:
        InputError: as `rms_norm`, or `partial_size` is not in 1 ... n.
    """
    return _computed(x, scale, axes, epsilon, rms_epsilon, rms_min, round_before_scale, round_reciprocal, partial_size)


@torch.library.custom_op("rms_deploy::add_rms_norm", mutates_args=())
def add_rms_norm(
    x: Tensor,
    residual: Tensor,
    scale: Tensor,
    axes: list[int],
    epsilon: float,
    rms_epsilon: float,
    rms_min: float,
    round_before_scale: bool,
    round_reciprocal: bool = False,
) -> tuple[Tensor, Tensor]:
    """total = x + residual, rounded to the dtype of x; y = rms_norm(total).

    Returns:
        (y, total), each of the shape and dtype of x.

    Raises:
        InputError: as `rms_norm`, or x and residual differ in shape or dtype.
    """
    if x.shape != residual.shape or x.dtype != residual.dtype:
        raise InputError(
            f"residual: {residual.dtype} {list(residual.shape)} does not match x, {x.dtype} {list(x.shape)}; "
            "both need one dtype and one shape"
        )
    total = (x + residual).contiguous()
    return _computed(total, scale, axes, epsilon, rms_epsilon, rms_min, round_before_scale, round_reciprocal), total


def _fake_one(x: Tensor, scale: Tensor, *_: Any) -> Tensor:  # noqa: ARG001 - the schema's arguments
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _fake_two(x: Tensor, residual: Tensor, scale: Tensor, *_: Any) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    return _fake_one(x, scale), _fake_one(x, scale)


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001 - torch's signature
    ctx.save_for_backward(inputs[0], inputs[1])
    ctx.options = inputs[2:-2]  # without the order of rounding


def _save_partial(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    ctx.save_for_backward(inputs[0], inputs[1])
    ctx.options = (*inputs[3:-2], inputs[2])


def _save_total(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1], inputs[2])
    ctx.options = inputs[3:-2]


def _rms_norm_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (*_gradients(grad, *ctx.saved_tensors, *ctx.options), *[None] * 6)


def _partial_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (*_gradients(grad, *ctx.saved_tensors, *ctx.options), *[None] * 7)


def _add_backward(ctx: Any, grad: Tensor, grad_total: Tensor) -> tuple[Tensor | None, ...]:
    grad_x, grad_scale = _gradients(grad, *ctx.saved_tensors, *ctx.options)
    grad_x = grad_total if grad_x is None else grad_x + grad_total
    return grad_x, grad_x, grad_scale, *[None] * 6


rms_norm.register_fake(_fake_one)
rms_norm.register_autograd(_rms_norm_backward, setup_context=_save_inputs)
partial_rms_norm.register_fake(_fake_one)
partial_rms_norm.register_autograd(_partial_backward, setup_context=_save_partial)
add_rms_norm.register_fake(_fake_two)
add_rms_norm.register_autograd(_add_backward, setup_context=_save_total)
