"""Model files: read with every fault named, written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError
from onnx_ir.external_data import convert_tensors_to_external
from onnx_ir.serde import SerdeError

from rms_deploy.errors import InputError, ModelFileError, OutputError
from rms_deploy.output_file import atomic_path, check_output

__all__ = ["load_model", "normalize_domains", "open_model", "save_model"]

_ALIAS = "ai.onnx"

_INLINE_LIMIT = 2**30
"""Bytes of weights above which a model is written with a data file: a protobuf message ends at 2 GiB."""

_SMALL = 1024
"""Bytes up to which an inline tensor stays in the model: shapes and axes, which tools read without the data."""


def load_model(path: str | os.PathLike[str]) -> ir.Model:
    """Read an ONNX file. External data is memory-mapped when it is first used, not read here.

    Raises:
        ModelFileError: the file is missing, truncated, not ONNX or newer than the installed onnx package, or its
            external data is missing, too short or outside the folder of the model.
    """
    path = Path(path)
    if path.is_dir():
        raise ModelFileError(f"{path}: is a directory; give an ONNX file")
    try:
        # An absolute path, because onnx-ir checks that external data stays inside a non-empty base folder only.
        model = ir.load(path.absolute())
    except FileNotFoundError:
        raise ModelFileError(f"{path}: no such file") from None
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error
    except (DecodeError, SerdeError, ValueError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path}: is not an ONNX model, or is truncated ({path.stat().st_size} bytes)") from error
    if not model.ir_version or not model.opset_imports:
        raise ModelFileError(f"{path}: is not an ONNX model: it names no IR version or no opset")
    if model.ir_version > onnx.IR_VERSION:
        raise ModelFileError(
            f"{path}: IR version {model.ir_version} is newer than {onnx.IR_VERSION}, the newest that "
            f"onnx {onnx.__version__} reads; upgrade onnx"
        )
    for tensor in _external_tensors(model):
        _check_external(path, tensor)
    normalize_domains(model)
    return model


def normalize_domains(model: ir.Model) -> None:
    """Write the default domain as the empty string where a file says `ai.onnx`, its legal alias."""
    for imports in (model.opset_imports, *(function.opset_imports for function in model.functions.values())):
        if _ALIAS in imports:
            imports.setdefault("", imports.pop(_ALIAS))


def save_model(model: ir.Model, path: str | os.PathLike[str], *, external: bool = False) -> None:
    """Write `model` to `path` whole, or leave what was there.

    Weights that lie in a data file in the folder of `path` stay there, untouched and referenced. Weights in a data
    file of another folder, or more than 1 GiB of inline weights, are written to `<path>.data`, one at a time.

    Args:
        model: what to write. It is not changed, except that weights which lay in a `<path>.data` that is replaced are
            read from the new one afterwards.
        path: an ONNX file, of which `<path>.data` is a part if it is written.
        external: write all weights to `<path>.data`, so that the two files are all that the model needs.

    Raises:
        OutputError: `path` is a directory, its folder is missing, or writing failed.
    """
    path = Path(path)
    check_output(path)
    try:
        if external or _needs_data_file(model, path):
            _save_with_data(model, path)
        else:
            with atomic_path(path) as temporary:
                ir.save(model, temporary)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _save_with_data(model: ir.Model, path: Path) -> None:
    path = path.resolve()
    data = path.with_name(f"{path.name}.data")
    slots = [(old, put) for old, put in _tensors(model) if isinstance(old, ir.ExternalTensor) or _is_large(old)]
    replaced = {id(old) for old, _ in slots if isinstance(old, ir.ExternalTensor) and Path(old.path).resolve() == data}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.") as folder:
        tensors = convert_tensors_to_external([old for old, _ in slots], folder, data.name)
        try:
            for (_, put), new in zip(slots, tensors, strict=True):
                put(new)
            ir.save(model, Path(folder, path.name))
        finally:
            for old, put in slots:
                put(old)
        _move_both(Path(folder), data, path)
    for (old, put), new in zip(slots, tensors, strict=True):
        if id(old) in replaced:
            new.base_dir = path.parent
            put(new)


def _move_both(folder: Path, data: Path, model: Path) -> None:
    """The two files of `folder` to their places; if the second cannot be moved, the first is what it was."""
    for target in (data, model):
        if target.exists():
            shutil.copymode(target, folder / target.name)
    before = folder / "before"
    if data.exists():
        data.replace(before)
    try:
        (folder / data.name).replace(data)
        (folder / model.name).replace(model)
    except OSError:
        data.unlink(missing_ok=True)
        if before.exists():
            before.replace(data)
        raise


def _needs_data_file(model: ir.Model, path: Path) -> bool:
    folder, inline = path.resolve().parent, 0
    for tensor, _ in _tensors(model):
        if isinstance(tensor, ir.ExternalTensor):
            if Path(tensor.base_dir).resolve() != folder:
                return True
        else:
            inline += tensor.nbytes
    return inline > _INLINE_LIMIT


def _is_large(tensor: ir.TensorProtocol) -> bool:
    return tensor.dtype != ir.DataType.STRING and tensor.nbytes > _SMALL


def _external_tensors(model: ir.Model) -> Iterator[ir.ExternalTensor]:
    return (tensor for tensor, _ in _tensors(model) if isinstance(tensor, ir.ExternalTensor))


def _tensors(model: ir.Model) -> Iterator[tuple[ir.TensorProtocol, Callable[[ir.TensorProtocol], None]]]:
    """Every initialiser, and every tensor of an attribute, with what puts another in its place."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value, partial(setattr, value, "const_value")
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                    yield attribute.as_tensor(), partial(_put_attribute, node, attribute.name)


def _put_attribute(node: ir.Node, name: str, tensor: ir.TensorProtocol) -> None:
    node.attributes[name] = ir.AttrTensor(name, tensor)


def _check_external(path: Path, tensor: ir.ExternalTensor) -> None:
    folder = path.absolute().parent.resolve()
    data = (folder / tensor.location).resolve()
    if not data.is_relative_to(folder) or ".." in Path(tensor.location).parts:
        raise ModelFileError(f"{path}: external data {tensor.location} of {tensor.name} is outside the model's folder")
    if not data.is_file():
        raise ModelFileError(f"{path}: external data file {tensor.location} is missing; copy it beside the model")
    end = (tensor.offset or 0) + (tensor.length if tensor.length is not None else tensor.nbytes)
    if data.stat().st_size < end:
        raise ModelFileError(
            f"{path}: external data file {tensor.location} is truncated: {tensor.name} ends at byte {end}, "
            f"the file at {data.stat().st_size}"
        )


def open_model(model: str | os.PathLike[str] | onnx.ModelProto | ir.Model) -> ir.Model:
    """A model of our own: read from the file, or a copy of what was given that shares its weights.

    Raises:
        ModelFileError: the file cannot be read.
        InputError: the model cannot be copied, as its nodes are not in topological order.
    """
    if not isinstance(model, (ir.Model, onnx.ModelProto)):
        return load_model(model)
    own = ir.from_proto(model) if isinstance(model, onnx.ModelProto) else _copied(model)
    normalize_domains(own)
    return own


def _copied(model: ir.Model) -> ir.Model:
    try:
        return model.clone()
    except RuntimeError as error:  # of onnx-ir, for a node that reads what no node before it writes
        raise InputError(
            f"{model.graph.name or 'model'}: its nodes are not in topological order; call model.graph.sort() first"
        ) from error
