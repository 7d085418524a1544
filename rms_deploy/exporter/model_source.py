"""From a name to a module with what its export needs: `llama-tiny`, `package.module:factory` of the user's own, or a
folder of Hugging Face.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rms_deploy.errors import InputError, RmsDeployError, one_line
from rms_deploy.exporter.source import Source
from rms_deploy.models import MODELS

__all__ = ["current_folder_importable", "resolve"]


@contextmanager
def current_folder_importable() -> Iterator[None]:
    """The current folder comes first among those that modules are found in, while the block runs.

    The block is to be as long as the user's code runs: a factory, and even a forward, may import.
    """
    folder = os.getcwd()  # noqa: PTH109 - sys.path holds strings
    added = folder not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        yield
    finally:
        if added and folder in sys.path:
            sys.path.remove(folder)


@current_folder_importable()
def resolve(
    model: str | os.PathLike[str] | nn.Module,
    inputs: Any = None,
    *,
    model_norm: str | None = None,
    random_weights: bool = False,
    with_past: bool = False,
) -> Source:
    """The module that `model` is or names, with its example inputs.

    Args:
        model: a module; a built-in name; `package.module:factory`, where the factory returns a module, or (module,
            inputs[, dynamic_shapes[, output_names]]), or is such a value itself, and may lie in the current folder;
            or a folder of Hugging Face.
        inputs: tensor, tuple or dict; takes the place of the factory's.
        model_norm: passed to the factory as `norm`; None calls it without arguments.
        random_weights: of a folder; see `rms_deploy.exporter.hugging_face`.
        with_past: of a folder; see `rms_deploy.exporter.cached_decoder`.

    Raises:
        InputError: an unknown name, a factory that cannot be imported or called, a folder that cannot be loaded, or no
            example inputs.
    """
    folder = _folder(model)
    if model_norm is not None and (folder is not None or isinstance(model, nn.Module)):
        raise InputError(
            f"{_named(model)}: it has its norms already; `model_norm` is for built-in models and factories"
        )
    for option, given in (("random_weights", random_weights), ("with_past", with_past)):
        if given and folder is None:
            raise InputError(f"{_named(model)}: `{option}=True` is for folders of Hugging Face")
    if folder is not None:
        from rms_deploy.exporter.hugging_face import load_folder

        source = load_folder(folder, random_weights=random_weights, with_past=with_past)
        if inputs is None:
            return source
        if with_past:
            raise InputError(f"{folder}: `with_past=True` makes its own example inputs; leave `inputs` out")
        named = inputs if isinstance(inputs, dict) else _as_tuple(inputs)
        return replace(source, inputs=named)
    result: Any = model if isinstance(model, nn.Module) else _call_factory(str(model), model_norm)
    parts = tuple(result) if isinstance(result, tuple) else (result,)
    if not 1 <= len(parts) <= 4 or not isinstance(parts[0], nn.Module):
        raise InputError(
            f"{model}: the factory returned {_described(result)}; "
            "return a torch.nn.Module, or (module, inputs[, dynamic_shapes[, output_names]])"
        )
    given = parts[1] if inputs is None and len(parts) > 1 else inputs
    if given is None:
        raise InputError(
            f"{_named(model)}: no example inputs; give `inputs`, or let the factory return (module, inputs)"
        )
    return Source(
        module=parts[0],
        inputs=given if isinstance(given, dict) else _as_tuple(given),
        dynamic_shapes=parts[2] if len(parts) > 2 else None,
        output_names=tuple(parts[3]) if len(parts) > 3 else (),
    )


def _folder(model: str | os.PathLike[str] | nn.Module) -> Path | None:
    """The folder that `model` names; None: it names no folder. Built-in names come first.

    Raises:
        InputError: it can only be a folder, and there is none.
    """
    if isinstance(model, nn.Module) or model in MODELS:
        return None
    path = Path(model)
    if path.is_dir():
        return path
    text = os.fspath(model)
    if not isinstance(model, str) or (":" not in text and os.sep in text):
        raise InputError(f"{text}: no such folder; give that of a Hugging Face model, with its config.json")
    return None


def _call_factory(name: str, model_norm: str | None) -> Any:
    location, arguments = MODELS.get(name, (name, {}))
    module_name, colon, attribute = location.partition(":")
    if not colon or not module_name or not attribute:
        near = get_close_matches(name, MODELS, n=2)
        hint = f"nearest: {', '.join(near)}; " if near else ""
        raise InputError(
            f"model {name!r} is not known; {hint}"
            "use a built-in name (`rms_deploy.models.MODELS`), package.module:factory, or a folder"
        )
    factory = _import(name, module_name)
    for part in attribute.split("."):
        if not hasattr(factory, part):
            raise InputError(f"{name}: module {module_name} has no {attribute!r}")
        factory = getattr(factory, part)
    if isinstance(factory, (nn.Module, tuple)):
        return factory
    if not callable(factory):
        raise InputError(f"{name}: {attribute} is {_described(factory)}, not a function that returns a module")
    try:
        return factory(**arguments, **({} if model_norm is None else {"norm": model_norm}))
    except RmsDeployError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise InputError(f"{name}: the factory failed: {one_line(error)}") from error


def _import(name: str, module_name: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except Exception as error:  # whatever the user's code raises
        raise InputError(f"{name}: module {module_name} cannot be imported: {one_line(error)}") from error


def _as_tuple(inputs: Any) -> tuple[Any, ...]:
    return (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)


def _named(model: str | os.PathLike[str] | nn.Module) -> str:
    return type(model).__name__ if isinstance(model, nn.Module) else os.fspath(model)


def _described(value: Any) -> str:
    return f"({', '.join(type(part).__name__ for part in value)})" if isinstance(value, tuple) else type(value).__name__
