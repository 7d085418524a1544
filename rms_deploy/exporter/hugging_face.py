"""A model of Hugging Face from its folder: config.json and safetensors, as `save_pretrained` writes them; offline."""

from __future__ import annotations

from rms_deploy.ops import torch_check  # noqa: F401 - first: it says what is missing

# isort: split
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rms_deploy.errors import InputError, MissingDependencyError, one_line
from rms_deploy.exporter import cached_decoder
from rms_deploy.exporter.source import Source

__all__ = ["load_folder"]

_SEED = 0
_BATCH, _SEQUENCE = 2, 16


def load_folder(folder: Path, *, random_weights: bool = False, with_past: bool = False) -> Source:
    """The model in `folder`, in the dtype of its file.

    The class is the one that config.json names in `architectures`, else that of `AutoModel`. Inputs are `input_ids`
    and `attention_mask`, int64 [batch, sequence]. The output, `logits` or `last_hidden_state`, is that of the whole
    sequence at once, without a cache; `with_past` adds one (see `rms_deploy.exporter.cached_decoder`).

    Args:
        folder: with config.json, and *.safetensors unless `random_weights`.
        random_weights: leave the weights of the folder alone; the class initialises its own, from a fixed seed, in the
            dtype that config.json names.
        with_past: the key-value cache is among inputs and outputs.

    Raises:
        InputError: no config.json or no weights, weights that do not fit, or an architecture that is not one of text
            with a single stack.
        MissingDependencyError: transformers is not installed.
    """
    transformers = _transformers()
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: no config.json; give the folder that save_pretrained wrote")
    if not random_weights and not any(folder.glob("*.safetensors")):
        raise InputError(f"{folder}: no *.safetensors; put the weights there, or use `random_weights=True`")
    with _quiet(transformers), _one_line_errors(folder):
        # Without trust_remote_code=False, transformers asks on the terminal whether it may run code of the folder.
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        kind = _class(transformers, folder, config)
        vocabulary = getattr(config.get_text_config(), "vocab_size", None)
        if vocabulary is None:
            raise InputError(
                f"{folder}: {kind.__name__} takes no tokens; give a model of text, or a factory of your own"
            )
        config.use_cache = False
        module = _randomized(kind, config) if random_weights else _loaded(kind, folder, config)
    shape = (_BATCH, _SEQUENCE)
    input_ids = torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(_SEED))
    inputs = {"input_ids": input_ids, "attention_mask": torch.ones(shape, dtype=torch.int64)}
    dynamic = {name: {0: "batch", 1: "sequence"} for name in inputs}
    generates = bool(getattr(module, "can_generate", bool)())
    source = Source(module.eval(), inputs, dynamic, own=True, cached=False if generates else None)
    if not with_past:
        return source
    with _quiet(transformers), _one_line_errors(folder, "run it with a cache"):
        return cached_decoder.with_past(source)


def _transformers() -> Any:
    try:
        with warnings.catch_warnings():  # of its optional parts
            warnings.simplefilter("ignore")
            import transformers
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{error.name} is not installed; run: pip install 'transformers>=4.57,<6' safetensors"
        ) from error
    return transformers


def _class(transformers: Any, folder: Path, config: Any) -> Any:
    """The class of transformers that wrote the weights."""
    names = config.architectures or []
    if config.is_encoder_decoder and not any(name.endswith("EncoderModel") for name in names):
        shown = names[0] if names else config.model_type
        raise InputError(
            f"{folder}: {shown} has an encoder and a decoder, which are two models in ONNX; "
            'for the encoder name its class in config.json, as "architectures": ["T5EncoderModel"]'
        )
    if not names:
        return transformers.AutoModel
    kind = getattr(transformers, names[0], None)
    if kind is None:
        raise InputError(f"{folder}: transformers {transformers.__version__} has no {names[0]}; is a newer one needed?")
    return kind


def _randomized(kind: Any, config: Any) -> nn.Module:
    before = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        torch.set_default_dtype(config.dtype or before)
        try:
            # AutoModel only finds the class that a config names; any other class builds a module itself.
            module: nn.Module = kind.from_config(config) if kind.__name__ == "AutoModel" else kind(config)
        finally:
            torch.set_default_dtype(before)
    return module


def _loaded(kind: Any, folder: Path, config: Any) -> nn.Module:
    module: nn.Module
    module, report = kind.from_pretrained(
        folder, config=config, dtype="auto", local_files_only=True, use_safetensors=True, output_loading_info=True
    )
    for problem, names in (("lack", report["missing_keys"]), ("have another shape of", report["mismatched_keys"])):
        if names:
            raise InputError(f"{folder}: the weights {problem} {len(names)} parameters, such as {min(map(str, names))}")
    return module


@contextmanager
def _one_line_errors(folder: Path, what: str = "load it") -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # whatever transformers and safetensors let through
        raise InputError(f"{folder}: transformers cannot {what}: {one_line(error)}") from error


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Hold back what transformers logs, its progress bars and its warnings."""
    logging = transformers.utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
