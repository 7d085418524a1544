"""The norms as `rms_deploy.nn` calls them: in eager mode straight into the compiled library, else through the ops.

A Python function of `torch.autograd` costs half of what a registered op with a gradient costs, 33 us against 55 for a
forward and a backward pass. What must see an op, because it records or transforms the computation (export,
`torch.compile`, traces, dispatch modes), gets the registered one. functorch's transforms and forward-mode gradients get
torch's own operators, which have every rule.
"""

from __future__ import annotations

from rms_deploy.ops import torch_check  # noqa: F401 - first: it says what is missing

# isort: split
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from rms_deploy.ops import torch_kernels, torch_ops

__all__ = ["add_rms_norm", "rms_norm"]

_under_functorch = torch._C._are_functorch_transforms_active
_dispatch_modes = torch._C._len_torch_dispatch_stack
_function_modes = torch._C._len_torch_function_stack
_traced = torch._C._get_tracing_state
_grad_enabled = torch.is_grad_enabled
_plan_of = torch_kernels.plan_of
_is_plain = torch_kernels.is_plain


def rms_norm(
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
    """As the op `rms_norm` of `torch_ops`, or `partial_rms_norm` where a `partial_size` is given."""
    if not torch.compiler.is_compiling():
        if _under_functorch() or forward_ad._current_level >= 0:
            return torch_ops._forward(
                x, scale, axes, epsilon, rms_epsilon, rms_min, round_before_scale, round_reciprocal, partial_size
            )
        if not (_dispatch_modes() or _function_modes() or _traced()):
            plan = _plan_of(
                x, scale, axes, epsilon, rms_epsilon, rms_min, round_before_scale, round_reciprocal, partial_size
            )
            if plan is not None:
                return _planned(plan, x, scale)
    options = (axes, epsilon, rms_epsilon, rms_min, round_before_scale, round_reciprocal)
    y: Tensor
    if partial_size is None:
        y = torch_ops.rms_norm(x, scale, *options)
    else:
        y = torch_ops.partial_rms_norm(x, scale, partial_size, *options)
    return y


def add_rms_norm(
    x: Tensor,
    residual: Tensor,
    scale: Tensor,
    axes: Sequence[int],
    epsilon: float,
    rms_epsilon: float,
    rms_min: float,
    round_before_scale: bool,
    round_reciprocal: bool,
) -> tuple[Tensor, Tensor]:
    """As the op `add_rms_norm` of `torch_ops`."""
    options = (axes, epsilon, rms_epsilon, rms_min, round_before_scale, round_reciprocal)
    if not torch.compiler.is_compiling():
        if _under_functorch() or forward_ad._current_level >= 0:
            if _match(x, residual):
                total = x + residual
                return torch_ops._forward(total, scale, *options), total
        elif not (_dispatch_modes() or _function_modes() or _traced()):
            plan = _plan_of(x, scale, *options)
            if plan is not None and _is_plain(residual) and _match(x, residual):
                return _planned_add(plan, x, residual, scale)
    both: tuple[Tensor, Tensor] = torch_ops.add_rms_norm(x, residual, scale, *options)
    return both


def _match(x: Tensor, residual: Tensor) -> bool:
    return x.shape == residual.shape and x.dtype == residual.dtype and x.device == residual.device


def _planned(plan: torch_kernels.Plan, x: Tensor, scale: Tensor) -> Tensor:
    # Contiguous before they are saved: what is saved must be an input, or a gradient of the gradient would miss it.
    x = x if x.is_contiguous() else x.contiguous()
    scale = scale if scale.is_contiguous() else scale.contiguous()
    if _grad_enabled() and (x.requires_grad or scale.requires_grad):
        y: Tensor = _apply_norm(x, scale, plan)
        return y
    return torch_kernels.forward(plan, x, scale)


def _planned_add(plan: torch_kernels.Plan, x: Tensor, residual: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    x, residual, scale = x.contiguous(), residual.contiguous(), scale.contiguous()
    if _grad_enabled() and (x.requires_grad or residual.requires_grad or scale.requires_grad):
        both: tuple[Tensor, Tensor] = _apply_add_norm(x, residual, scale, plan)
        return both
    return torch_kernels.forward_of_sum(plan, x, residual, scale)


def _formula(plan: torch_kernels.Plan, grad: Tensor, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    axes, epsilon, rms_epsilon, rms_min, _, _, partial_size = plan.options
    return torch_ops._backward(grad, x, scale, axes, epsilon, rms_epsilon, rms_min, partial_size)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, plan: torch_kernels.Plan) -> Tensor:
        ctx.save_for_backward(x, scale)
        ctx.plan = plan
        return torch_kernels.forward(plan, x, scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale = ctx.saved_tensors
        # The formula where a gradient of the gradient is asked for, or grad stands for others (`is_grads_batched`).
        if _grad_enabled() or _under_functorch() or not _is_plain(grad):
            return (*_formula(ctx.plan, grad, x, scale), None)
        wants_x, wants_scale, _ = ctx.needs_input_grad
        grad_x, grad_scale = torch_kernels.backward(ctx.plan, x, scale, grad, None, wants_x, wants_scale)
        return grad_x, grad_scale, None


class _AddRMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor, scale: Tensor, plan: torch_kernels.Plan
    ) -> tuple[Tensor, Tensor]:
        y, total = torch_kernels.forward_of_sum(plan, x, residual, scale)
        ctx.save_for_backward(total, scale)
        ctx.set_materialize_grads(False)
        ctx.plan = plan
        return y, total

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_total: Tensor | None) -> tuple[Tensor | None, ...]:
        total, scale = ctx.saved_tensors
        wants_x, wants_residual, wants_scale, _ = ctx.needs_input_grad
        wants_x = wants_x or wants_residual
        grad_x: Tensor | None
        grad_scale: Tensor | None
        if grad is None:
            grad_x, grad_scale = grad_total, torch.zeros_like(scale) if wants_scale else None
        elif _grad_enabled() or _under_functorch() or not (_is_plain(grad) and _is_plain_or_none(grad_total)):
            grad_x, grad_scale = _formula(ctx.plan, grad, total, scale)
            grad_x = grad_x if grad_total is None else grad_x + grad_total
        else:
            grad_x, grad_scale = torch_kernels.backward(ctx.plan, total, scale, grad, grad_total, wants_x, wants_scale)
        return grad_x, grad_x, grad_scale, None


def _is_plain_or_none(grad: Tensor | None) -> bool:
    return grad is None or _is_plain(grad)


# Function.apply without what it does for functorch, which never comes here: a tenth of the whole call.
_apply_norm: Any = super(torch.autograd.Function, _RMSNorm).apply
_apply_add_norm: Any = super(torch.autograd.Function, _AddRMSNorm).apply
