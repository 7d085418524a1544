"""The formula in parts: both models in float64, cut at each value that they share, get the same numbers at each cut.

An error in one norm is then not lost in the large sums of a deep model, and shows where it is made: all that lies in
front of it was given to both. At each cut the numbers are once those that the reference has there, and once so small
that their mean squares are below every usual epsilon.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rms_deploy.errors import InputError, RunError
from rms_deploy.ops.element_types import is_float
from rms_deploy.verification.candidates import CandidateRun
from rms_deploy.verification.check import Divergence, Part
from rms_deploy.verification.cuts import exposed, given
from rms_deploy.verification.difference import TIPPED, difference, is_near
from rms_deploy.verification.pairs import ValuePair, pair_of, pairs
from rms_deploy.verification.wide import Wide, wide_feeds

__all__ = ["compare_parts", "first_failed"]

_Arrays = Mapping[str, NDArray[Any]]

_TINY: Final = 1e-4
"""The root of the mean square of tiny numbers; as in `random_inputs`."""

_ROUNDS: Final = 2
"""How often pairs are given up."""

_HELD: Final = 4
"""Arrays of each cut that are in memory at once: what was given and what each model made of it, and a copy."""


def compare_parts(
    reference: CandidateRun,
    candidate: CandidateRun,
    feeds: _Arrays,
    *,
    tolerance: float,
    are_unequal: bool = False,
    memory: float = math.inf,
) -> tuple[Part, ...]:
    """Every part of both models, on the same numbers.

    A pair of values that are not the same was no pair, or shows an error. So where some differ, the models are cut at
    the others alone, up to two times: the pairs behind a wrong one may be wrong too. If the models then agree
    throughout, there is no error.

    Args:
        reference: in float64.
        candidate: in float64.
        feeds: inputs of the whole models.
        tolerance: largest accepted relative L2 difference.
        are_unequal: the whole models differ: no pair is doubted.
        memory: bytes for the values at the cuts, and the weights; where they need more, there are fewer cuts.

    Returns:
        The parts in the order of the reference: none where the models share no value, or where what is behind a cut
        does not run on numbers of another size.

    Raises:
        RunError: a kernel fails.
    """
    assert reference.wide is not None
    assert candidate.wide is not None
    wide = (reference.wide, candidate.wide)
    every = pairs(wide[0].model, wide[0].weights, wide[1].model, wide[1].weights)
    shared = _thinned(every, feeds, memory - max(each.nbytes for each in wide))
    outputs = [pair_of(value, value) for value in wide[0].model.graph.outputs]
    real = _run(wide[0], [pair.reference for pair in shared], feeds)
    forms = {name: (a.shape, a.dtype) for name, a in _run(wide[1], [p.candidate for p in shared], feeds).items()}
    shared = [p for p in shared if (real[p.reference].shape, real[p.reference].dtype) == forms[p.candidate]]
    if not shared:
        return ()
    try:
        first = parts = _compared(wide, shared, outputs, real, feeds, tolerance)
        for _ in range(0 if are_unequal else _ROUNDS):
            refuted = {part.pair for part in parts if not part.passed}
            if refuted.isdisjoint(shared):
                break
            shared = [pair for pair in shared if pair not in refuted]
            parts = _compared(wide, shared, outputs, real, feeds, tolerance)
    except (InputError, RunError):  # what numbers of another size do to indices, or to shapes
        return ()
    return tuple(first if any(not part.passed for part in parts) else parts)


def first_failed(parts: Sequence[Part]) -> Divergence | None:
    """Where the formulas part; None: nowhere."""
    order = list(dict.fromkeys(part.pair for part in parts))
    failed = [part for part in parts if not part.passed]
    if not failed:
        return None
    first = min(failed, key=lambda part: order.index(part.pair))
    return Divergence(first.pair, f"in float64, for {first.kind} numbers", 0.0, first.difference)


def _thinned(shared: Sequence[ValuePair], feeds: _Arrays, memory: float) -> list[ValuePair]:
    """As many of the pairs, evenly spread, as fit in memory by an estimate."""
    rows = max((math.prod(a.shape[:-1] if is_float(a.dtype) else a.shape) for a in feeds.values()), default=1)
    nbytes = _HELD * 8 * rows * sum(pair.width for pair in shared)
    return list(shared[:: max(1, math.ceil(nbytes / max(memory, 1)))])


def _compared(
    wide: tuple[Wide, Wide],
    shared: Sequence[ValuePair],
    outputs: Sequence[ValuePair],
    real: _Arrays,
    feeds: _Arrays,
    tolerance: float,
) -> list[Part]:
    """The parts between these cuts; `real`: what the reference has there, and gives."""
    ours, theirs = [pair.reference for pair in shared], [pair.candidate for pair in shared]
    numbers = [real[name] for name in ours]
    every = (*shared, *outputs)
    parts = list(_parts(every, "real", _run(wide[1], theirs, feeds, numbers), real, tolerance))
    numbers = [_scaled(array) for array in numbers]
    expected = _run(wide[0], ours, feeds, numbers)
    return parts + list(_parts(every, "tiny", _run(wide[1], theirs, feeds, numbers), expected, tolerance))


def _parts(
    every: Sequence[ValuePair], kind: str, actual: _Arrays, expected: _Arrays, tolerance: float
) -> Iterator[Part]:
    for pair in every:
        result = actual[pair.candidate]
        found = difference(result, expected[pair.reference])
        yield Part(pair, kind, found, is_near(found, result.dtype, tolerance, share=TIPPED))


def _run(
    wide: Wide, names: Sequence[str], feeds: _Arrays, numbers: Sequence[NDArray[Any]] | None = None
) -> dict[str, NDArray[Any]]:
    """The values of these names, and all outputs; `numbers`: the model is cut at the values, and is given these."""
    model = exposed(wide.model, names, cut=numbers is not None, dtype=wide.to)
    run, _ = replace(wide, model=model).prepare()
    return run({**wide_feeds(feeds, wide.to), **given(numbers or ())})


def _scaled(array: NDArray[Any]) -> NDArray[Any]:
    """The same numbers, their root mean square tiny."""
    size = math.sqrt(float(np.mean(np.square(array)))) if array.size else 0.0
    return array * (_TINY / size) if 0 < size < math.inf else array
