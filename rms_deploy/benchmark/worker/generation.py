"""Generation: tokens after a prompt, one at a time, the key-value cache of each run fed to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rms_deploy.benchmark.generation import cache_pairs
from rms_deploy.errors import RunError
from rms_deploy.runtime import onnxruntime_session as runtime

__all__ = ["generation"]

_LOGITS, _IDS, _MASK, _POSITIONS = "logits", "input_ids", "attention_mask", "position_ids"


def generation(session: Any, prompt: Mapping[str, NDArray[Any]], tokens: int) -> Callable[[], list[NDArray[Any]]]:
    """A function that generates `tokens` tokens after `prompt`, whose cache is computed here, once.

    Each token is that of the largest logit (greedy). A run of the function is `tokens` runs of the session, and begins
    anew each time. The cache stays where ONNX Runtime has put it, and is not copied. Other inputs than tokens, mask,
    positions and cache are those of the prompt.

    Args:
        session: of ONNX Runtime, for a decoder with outputs `logits` and the cache.
        prompt: all inputs, `input_ids` with at least one token.
        tokens: how many.

    Returns:
        The function; it gives the tokens, each [batch].

    Raises:
        RunError: the model has no such inputs or outputs, or ONNX Runtime refuses them.
    """
    pairs = cache_pairs([value.name for value in session.get_inputs()], [o.name for o in session.get_outputs()])
    if not pairs or _IDS not in prompt or _LOGITS not in [value.name for value in session.get_outputs()]:
        raise RunError(
            f"it generates no tokens: it needs {_IDS}, {_LOGITS}, and a cache of past_key_values and present; "
            "`rms_deploy.export` writes them, with `with_past=True`"
        )
    outputs = [_LOGITS, *pairs.values()]
    kept = {name: runtime.to_value(prompt[name]) for name in prompt if name not in (*pairs, _IDS, _MASK, _POSITIONS)}
    steps = list(_steps(prompt, tokens))
    try:
        read = session.run_with_ort_values(outputs, {name: runtime.to_value(array) for name, array in prompt.items()})
    except Exception as error:  # whatever the runtime raises
        raise RunError(f"it does not run the prompt: {' '.join(str(error).split())}") from error
    dtype = prompt[_IDS].dtype

    def generate() -> list[NDArray[Any]]:
        generated = []
        logits, *cache = read
        for step in steps:
            token = _largest(runtime.to_array(logits)).astype(dtype)
            generated.append(token)
            feeds = {**kept, **step, _IDS: runtime.to_value(token[:, None]), **dict(zip(pairs, cache, strict=True))}
            logits, *cache = session.run_with_ort_values(outputs, feeds)
        return generated

    return generate


def _steps(prompt: Mapping[str, NDArray[Any]], tokens: int) -> Iterator[dict[str, Any]]:
    """Mask and position of each new token, as far as the model takes them."""
    for step in range(tokens):
        arrays = {}
        if _MASK in prompt:
            mask = prompt[_MASK]
            arrays[_MASK] = np.concatenate([mask, np.ones((len(mask), step + 1), mask.dtype)], axis=1)
        if _POSITIONS in prompt:
            arrays[_POSITIONS] = prompt[_POSITIONS][:, -1:] + np.asarray(step + 1, prompt[_POSITIONS].dtype)
        yield {name: runtime.to_value(array) for name, array in arrays.items()}


def _largest(logits: NDArray[Any]) -> NDArray[Any]:
    """The index of the largest logit of the last position; [batch, vocabulary], or [batch, sequence, vocabulary]."""
    index: NDArray[Any] = (logits if logits.ndim == 2 else logits[:, -1]).argmax(-1)
    return index
