"""Which RMSNorm a module of unknown code is, found by running it, not by its name.

A copy of the module gets a random weight w and random rows x, and answers four questions in turn:

1. offset: is y = (offset + w) * x / r with one r per row, for offset 0 or 1?
2. mean: is r the root mean square of the whole row, where rows are large?
3. epsilon: is r sqrt(m + e), sqrt(m) + e, max(sqrt(m), e) or sqrt(m), where rows are tiny?
4. rounding: are float16 and bfloat16 results those of one rounding, of rounding before the scale, or of a reciprocal
   that is rounded?

What fits no answer is refused, with the reason.
"""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rms_deploy.errors import one_line
from rms_deploy.nn import RMSNorm

__all__ = ["NotReplaceableError", "probe"]

_TINY: Final = 1e-18
"""Magnitude of rows that show an epsilon alone; their squares are just normal float32 numbers."""

_RELATIVE: Final = 1e-4
"""How far r may be from its prediction: float32 statistics are within 1e-6, another formula is beyond 1e-2."""

_SAME: Final = 0.98
"""Share of equal half-precision results that shows a rounding order. x * (1 / r) in the place of x / r changes fewer
than 0.1 %, the other order about 25 %.
"""


_Order = tuple[bool, bool]
"""`round_before_scale` and `round_reciprocal` of a norm."""

_ONCE: Final[_Order] = (False, False)


class NotReplaceableError(Exception):
    """Why a module stays: it is no RMSNorm, or one that cannot be told."""


def probe(module: nn.Module) -> RMSNorm:
    """The RMSNorm that computes what `module` does, sharing its weight. `module` is not changed.

    A float32 module whose half-precision rounding fits no order gets one rounding: in float32 there is no
    difference.

    Raises:
        NotReplaceableError: it is no RMSNorm, or one that cannot be told.
    """
    name, shape = _weight(module)
    _check_signature(module)
    try:
        with torch.no_grad():
            trial = _Trial(module, name, shape, torch.float32)
            offset = trial.offset()
            epsilons = trial.epsilons(offset)
            norm = RMSNorm(shape, **epsilons, scale=name is not None, scale_offset=offset)
            trial.check(norm)
            norm.round_before_scale, norm.round_reciprocal = _rounding_order(module, name, norm)
    except NotReplaceableError:
        raise
    except Exception as error:  # whatever the module's code raises
        raise NotReplaceableError(f"it cannot be run alone: {one_line(error)}") from error
    if name is not None:
        norm.weight = module.get_parameter(name)
    return norm.train(module.training)


def _weight(module: nn.Module) -> tuple[str | None, tuple[int, ...]]:
    """Name of the one parameter, or None, and the shape that is normalised."""
    parameters = dict(module.named_parameters(recurse=False))
    if len(parameters) > 1:
        raise NotReplaceableError(f"it has {len(parameters)} parameters ({', '.join(parameters)}), an RMSNorm has one")
    if any(True for _ in module.children()) or any(True for _ in module.buffers()):
        raise NotReplaceableError("it has submodules or buffers, an RMSNorm has none")
    if parametrize.is_parametrized(module):
        raise NotReplaceableError("its weight is parametrized")
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
        raise NotReplaceableError("it has hooks, which a replacement would lose")
    if not parameters:
        shape = tuple(getattr(module, "normalized_shape", ()))
        if not shape:
            raise NotReplaceableError("it has no weight, so its size is not known")
        return None, shape
    name, weight = next(iter(parameters.items()))
    if weight.ndim == 0 or (weight.ndim > 1 and 1 in weight.shape):
        raise NotReplaceableError(f"its weight has shape {list(weight.shape)}, which does not say what is normalised")
    return name, tuple(weight.shape)


def _check_signature(module: nn.Module) -> None:
    parameters = inspect.signature(module.forward).parameters.values()
    is_open = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    if is_open or len(parameters) != 1:
        names = ", ".join(
            "*" * (parameter.kind is parameter.VAR_POSITIONAL) + parameter.name for parameter in parameters
        )
        raise NotReplaceableError(f"its forward takes ({names}), that of an RMSNorm one tensor")


class _Trial:
    """A copy of a module in one dtype with a random weight."""

    def __init__(self, module: nn.Module, name: str | None, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.module = copy.deepcopy(module).to("cpu", dtype).eval()
        self.floats = [value for value in vars(module).values() if isinstance(value, float) and value > 0]
        self.shape = shape
        self.dtype = dtype
        self.generator = torch.Generator().manual_seed(0)
        self.weight = torch.ones((), dtype=dtype)
        self.has_weight = name is not None
        if name is not None:
            # Neither the weight nor 1 + weight comes near 0, by which r is divided.
            magnitude = 0.25 + 0.5 * torch.rand(shape, generator=self.generator)
            self.weight = (magnitude * self._signs(shape)).to(dtype)
            self.module.get_parameter(name).copy_(self.weight)

    def run(self, x: Tensor) -> Tensor:
        y = self.module(x)
        if not isinstance(y, Tensor) or y.shape != x.shape or y.dtype != x.dtype:
            raise NotReplaceableError("its result is not one tensor of the shape and dtype of its input")
        return y

    def offset(self) -> float:
        """The offset with which r is one number per row. Rows are large here, so r must be their root mean square."""
        x = self.rows(1e3)
        y = self.run(x)
        for offset in (0.0, 1.0) if self.has_weight else (0.0,):
            r = self._ratio(x, y, offset)
            if bool((r.amax(1) - r.amin(1) <= _RELATIVE * r.mean(1).abs()).all()):
                if not _close(r.mean(1), _root_mean_square(x, self.shape)):
                    raise NotReplaceableError("it does not divide by the root mean square of the whole row")
                return offset
        raise NotReplaceableError("it is not w * x / r nor (1 + w) * x / r with one r for each row")

    def epsilons(self, offset: float) -> dict[str, Any]:
        """The one epsilon that explains r in tiny rows, under its name in the contract."""
        tiny = self.rows(_TINY)
        root = _root_mean_square(tiny, self.shape)
        r = self._ratio(tiny, self.run(tiny), offset).mean(1)
        if _close(r, root):
            return {"epsilon": 0.0}
        e = float(r.mean())
        x = torch.cat([self.rows(factor * e) for factor in (0.5, 1.0, 2.0)])
        root = _root_mean_square(x, self.shape)
        r = self._ratio(x, self.run(x), offset).mean(1)
        predictions = {
            "epsilon": (torch.sqrt(root.square() + e * e), e * e),
            "rms_epsilon": (root + e, e),
            "rms_min": (root.clamp(min=e), e),
        }
        for name, (prediction, value) in predictions.items():
            if _close(r, prediction):
                return {"epsilon": 0.0} | {name: self._written(value)}
        raise NotReplaceableError("its epsilon is neither inside nor added to nor a bound of the root")

    def check(self, norm: RMSNorm) -> None:
        """Refuse unless `norm` gives the same with 1, 2 and 3 leading axes, as far as the module takes them."""
        norm = _with_weight(norm, self)
        for lead in ((5,), (2, 3), (2, 2, 3)):
            x = torch.randn(*lead, *self.shape, generator=self.generator)
            try:
                y = self.run(x)
            except (RuntimeError, ValueError, IndexError):  # then the model does not call it so either
                continue
            if not torch.allclose(y, norm(x), rtol=_RELATIVE, atol=_RELATIVE):
                raise NotReplaceableError(f"it is another function for tensors of rank {x.ndim}")

    def rows(self, magnitude: float) -> Tensor:
        """[2, 3, *shape] of random signs, |x| between half and twice the magnitude, unevenly along each row."""
        size = (2, 3, *self.shape)
        return magnitude * 4 ** (torch.rand(size, generator=self.generator) - 0.5) * self._signs(size)

    def _signs(self, size: tuple[int, ...]) -> Tensor:
        return torch.randint(0, 2, size, generator=self.generator) * 2.0 - 1.0

    def _ratio(self, x: Tensor, y: Tensor, offset: float) -> Tensor:
        """r = (offset + w) * x / y, by which y = (offset + w) * x / r; float64, one row for each row of x."""
        ratio = x.double() * (offset + self.weight.double()) / y.double()
        return ratio.reshape(-1, math.prod(self.shape))

    def _written(self, value: float) -> float:
        """The number that the module's code has where `value` was measured; `value` itself if none is near."""
        known = [*self.floats, torch.finfo(torch.float32).eps, float(f"{value:.2e}")]
        nearest = min(known, key=lambda number: abs(number - value))
        return nearest if abs(nearest - value) <= _RELATIVE * value else value


def _rounding_order(module: nn.Module, name: str | None, norm: RMSNorm) -> _Order:
    """How `module` rounds in its own dtype, or, if that is float32, in both half types."""
    dtype = next((parameter.dtype for parameter in module.parameters()), torch.float32)
    found = {half: _fitting_order(module, name, norm, half) for half in (torch.float16, torch.bfloat16)}
    if dtype in found:
        order = found[dtype]
        if order is None:
            raise NotReplaceableError(
                f"in {str(dtype).removeprefix('torch.')} its rounding is no order of the contract"
            )
        return order
    orders = set(found.values())
    return (orders.pop() if len(orders) == 1 else None) or _ONCE


def _fitting_order(module: nn.Module, name: str | None, norm: RMSNorm, dtype: torch.dtype) -> _Order | None:
    """How `module` rounds in `dtype`, a half type; None: its results fit no order."""
    trial = _Trial(module, name, norm.shape, dtype)
    ours = _with_weight(norm, trial)
    n = math.prod(norm.shape)
    x = torch.randn(2, -(-4096 // n), *norm.shape, generator=trial.generator)
    x[0] *= max(math.sqrt(norm.epsilon), norm.rms_epsilon, norm.rms_min) or 1.0  # half of it shows the epsilon too
    x = x.to(dtype)
    try:
        y = trial.run(x)
    except (NotReplaceableError, RuntimeError):
        return None
    for order in (_ONCE, (True, False), (True, True)):
        ours.round_before_scale, ours.round_reciprocal = order
        if float((y == ours(x)).float().mean()) >= _SAME:
            return order
    return None


def _with_weight(norm: RMSNorm, trial: _Trial) -> RMSNorm:
    twin = copy.deepcopy(norm).to(trial.dtype)
    if twin.weight is not None:
        twin.weight.copy_(trial.weight)
    return twin


def _root_mean_square(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x.double().reshape(-1, math.prod(shape)).square().mean(1).sqrt()


def _close(actual: Tensor, predicted: Tensor) -> bool:
    return bool(((actual - predicted).abs() <= _RELATIVE * predicted).all())
