"""Model files: read with every fault named, written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError
from onnx_ir.external_data import convert_tensors_to_external

from rms_deploy.errors import ModelFileError, OutputError
from rms_deploy.onnx_model.check import check_written
from rms_deploy.onnx_model.data_file import place_model, place_pair
from rms_deploy.onnx_model.external_data import DataFileTensor, DataFolders
from rms_deploy.onnx_model.malformed import MalformedError
from rms_deploy.onnx_model.opening import own_copy, own_model
from rms_deploy.onnx_model.tensor_slots import tensor_slots
from rms_deploy.onnx_model.unchanged import is_data_beside, write_unchanged
from rms_deploy.onnx_model.unread_parts import to_proto
from rms_deploy.output_file import check_output, work_folder

__all__ = ["load_model", "open_model", "save_model"]

_MESSAGE_LIMIT = 2**31 - 1
"""Bytes that a protobuf message can have."""

_INLINE_LIMIT = 2**30
"""Bytes of weights above which a model is written with a data file."""

_SMALL = 1024
"""Bytes up to which an inline tensor stays in the model: shapes and axes, which tools read without the data."""


def load_model(path: str | os.PathLike[str]) -> ir.Model:
    """Read an ONNX file. External data is memory-mapped when it is first used, not read here.

    Raises:
        ModelFileError: the file is missing, truncated, not ONNX, malformed or newer than the installed onnx package,
            or its external data is missing, too short or outside the folder of the model.
    """
    path = Path(path)
    proto = _read(path)
    if not proto.ir_version or not proto.opset_import or not proto.HasField("graph"):
        raise ModelFileError(f"{path}: is not an ONNX model: it has no IR version, no opset or no graph")
    if proto.ir_version > onnx.IR_VERSION:
        raise ModelFileError(
            f"{path}: IR version {proto.ir_version} is newer than {onnx.IR_VERSION}, the newest that "
            f"onnx {onnx.__version__} reads; upgrade onnx"
        )
    try:
        return own_model(proto, DataFolders(path.parent, path.name))
    except MalformedError as error:
        raise ModelFileError(f"{path}: {error}") from None


def _read(path: Path) -> onnx.ModelProto:
    try:
        state = path.stat()
        if stat.S_ISDIR(state.st_mode):
            raise ModelFileError(f"{path}: is a directory; give an ONNX file")
        if stat.S_ISCHR(state.st_mode) or stat.S_ISBLK(state.st_mode):
            raise ModelFileError(f"{path}: is a device; give an ONNX file")
        if state.st_size > _MESSAGE_LIMIT:
            raise ModelFileError(
                f"{path}: has {state.st_size} bytes, and an ONNX file at most {_MESSAGE_LIMIT}; "
                "save the model with external data"
            )
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelFileError(f"{path}: no such file") from None
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError:  # a NUL
        raise ModelFileError(f"{os.fspath(path)!r}: no such file") from None
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except DecodeError as error:
        if "MaxDepth" in str(error):
            raise ModelFileError(f"{path}: its graphs are nested deeper than protobuf reads") from error
        raise ModelFileError(f"{path}: is not an ONNX model, or is truncated ({len(content)} bytes)") from error
    return proto


def open_model(model: str | os.PathLike[str] | onnx.ModelProto | ir.Model) -> ir.Model:
    """A model of our own: read from the file, or a copy of what was given that shares its weights.

    Raises:
        ModelFileError: the file cannot be read, or the model is malformed.
        InputError: the model cannot be copied, as its nodes are not in topological order.
    """
    if not isinstance(model, (ir.Model, onnx.ModelProto)):
        return load_model(model)
    try:
        if isinstance(model, ir.Model):
            return own_copy(model)
        return own_model(model, DataFolders(os.curdir, must_exist=False))
    except MalformedError as error:
        raise ModelFileError(f"the model given: {error}") from None


def save_model(
    model: ir.Model,
    path: str | os.PathLike[str],
    *,
    external: bool = False,
    unchanged: str | os.PathLike[str] | onnx.ModelProto | None = None,
) -> None:
    """Write `model` to `path` whole, or leave what was there, whatever ends the process.

    Weights that lie in a data file in the folder of `path` stay there, untouched and referenced. Weights in a data
    file of another folder, or more than 1 GiB of inline weights, are written to `<path>.data`, one at a time.

    Args:
        model: what to write, as `open_model` gives it. It is not changed, except that weights which lay in a
            `<path>.data` that is replaced are read from the new one afterwards.
        path: an ONNX file, of which `<path>.data` is a part if it is written.
        external: write all weights to `<path>.data`, so that the two files are all that the model needs.
        unchanged: what the model was read from, where it is still the same: the output has its very bytes, unless
            weights have to move.

    Raises:
        OutputError: `path` is a directory, its folder is missing, writing failed, or the training info of the model
            does not fit it any more.
        ModelFileError: a data file is no longer what it was when the model was read.
        RuntimeError: the model is not valid, which is a fault of this package; nothing is written.
    """
    check_output(path)
    target = Path(os.path.realpath(path))
    try:
        with work_folder(target.parent) as folder:
            if unchanged is not None and not external and write_unchanged(model, unchanged, target, folder):
                return
            if external or _needs_data_file(model, target):
                _save_with_data(model, target, folder)
            else:
                proto = to_proto(model)
                tensors = check_written(proto)
                (folder / "model").write_bytes(proto.SerializeToString())
                place_model(folder / "model", target, set(map(_location, tensors)))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _save_with_data(model: ir.Model, path: Path, folder: Path) -> None:
    slots = [(old, put) for old, put in tensor_slots(model) if isinstance(old, ir.ExternalTensor) or _is_large(old)]
    tensors = convert_tensors_to_external([old for old, _ in slots], folder, "data")
    if not tensors:
        (folder / "data").touch()
    before = [Path(os.path.realpath(old.path)) if isinstance(old, ir.ExternalTensor) else None for old, _ in slots]
    try:
        for (_, put), new in zip(slots, tensors, strict=True):
            put(new)
        proto = to_proto(model)
    finally:
        for old, put in slots:
            put(old)
    written = check_written(proto)

    def write(to: Path, data: str) -> None:
        for tensor in written:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = data
        to.write_bytes(proto.SerializeToString())

    placed = place_pair(folder, path, write)
    for (_, put), new, file in zip(slots, tensors, before, strict=True):
        if file is not None and (file == placed or not file.exists()):
            put(DataFileTensor(new, placed, path.parent))


def _location(tensor: onnx.TensorProto) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def _needs_data_file(model: ir.Model, path: Path) -> bool:
    """Whether a tensor's data cannot be read from beside `path`, or inline weights are too many."""
    inline = 0
    for tensor, _ in tensor_slots(model):
        if isinstance(tensor, ir.ExternalTensor):
            if not is_data_beside(tensor, path):
                return True
        else:
            inline += tensor.nbytes
    return inline > _INLINE_LIMIT


def _is_large(tensor: ir.TensorProtocol) -> bool:
    return tensor.dtype != ir.DataType.STRING and tensor.nbytes > _SMALL
