"""Where the numbers of two models part, as they are deployed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from rms_deploy.errors import RunError
from rms_deploy.runtime import onnxruntime_session as runtime
from rms_deploy.verification.candidates import Candidate
from rms_deploy.verification.cast_inputs import fitted
from rms_deploy.verification.check import Divergence
from rms_deploy.verification.cuts import exposed
from rms_deploy.verification.difference import difference
from rms_deploy.verification.pairs import pair_of, pairs
from rms_deploy.verification.wide import lacks_functions, run_streamed, stream_weights

__all__ = ["first_difference"]

_Arrays = Mapping[str, NDArray[Any]]


def first_difference(
    reference: Candidate, candidate: Candidate, feeds: _Arrays, *, tolerance: float, library: bool
) -> Divergence | None:
    """The first value that both models share, or output, in which they differ by more than `tolerance`.

    Both run in their own types, the reference unoptimised and the candidate optimised, with the values that they share
    as outputs. So an optimisation that would remove such a value does not take place.

    Args:
        reference: the model that is right.
        candidate: the model that differs.
        feeds: inputs for which they differ.
        tolerance: largest accepted relative L2 difference.
        library: run the candidate with our custom-op library.

    Returns:
        Where they part; None: nowhere, or they do not run in this way.
    """
    models = reference.model.clone(), candidate.model.clone()
    ours, theirs = (
        stream_weights(model, {value: value.const_value for value in model.graph.initializers.values()})
        for model in models
    )
    shared = pairs(models[0], ours, models[1], theirs)
    try:
        right = exposed(models[0], [pair.reference for pair in shared])
        wrong = exposed(models[1], [pair.candidate for pair in shared])
        session = runtime.session(right, optimize=False, library=lacks_functions(right), in_order=True)
        expected = run_streamed(session, ours, feeds)
        session = runtime.session(wrong, library=library, in_order=True)
        actual = run_streamed(session, theirs, fitted(feeds, candidate.model))
    except RunError:
        return None
    before = 0.0
    for pair in (*shared, *(pair_of(value, value) for value in models[0].graph.outputs)):
        found = difference(actual[pair.candidate], expected[pair.reference])
        if not found.within(tolerance):
            return Divergence(pair, "as deployed", before, found)
        before = found.relative_l2
    return None
