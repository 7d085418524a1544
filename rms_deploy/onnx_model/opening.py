"""A model of our own, from a proto or an onnx-ir model, once the check has passed it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import count

import onnx
import onnx_ir as ir

from rms_deploy.errors import InputError
from rms_deploy.onnx_model.check import check
from rms_deploy.onnx_model.external_data import DataFileTensor, DataFolders, check_data, check_range
from rms_deploy.onnx_model.ir_check import check_ir
from rms_deploy.onnx_model.malformed import MalformedError, printable
from rms_deploy.onnx_model.scope import MAIN, FunctionId
from rms_deploy.onnx_model.sparse import densify
from rms_deploy.onnx_model.tensor_slots import tensor_slots
from rms_deploy.onnx_model.unchanged import remember_files
from rms_deploy.onnx_model.unread_parts import from_proto, hand_on_parts
from rms_deploy.ops.nodes import graphs_of

__all__ = ["own_copy", "own_model"]

_ALIAS = "ai.onnx"


def own_model(proto: onnx.ModelProto, folders: DataFolders) -> ir.Model:
    """The model in `proto`, which stays what it was and shares its weights; data files lie in `folders`.

    1. Sparse tensors become dense ones.
    2. Data files are read from where they were when they were checked.
    3. The default domain is the empty string, and every domain that is used is imported: where none is, ONNX Runtime
       takes the newest.
    4. Nodes come after those that they read from.
    5. No two nodes of a graph have one name, which ONNX Runtime refuses and others do not.
    6. A negative dim of a declared shape is an unknown one, as ONNX Runtime takes it.

    Raises:
        MalformedError: what is wrong.
    """
    checked = check(proto)
    for tensor, size in checked.external:
        check_data(tensor, size, folders)
    model = from_proto(densify(proto, folders) if checked.has_sparse else proto, folders.folder)  # case 1
    roots = (model.graph, *(function.graph for function in model.functions.values()))
    _check_texts(graphs_of(model, ours=True) if checked.has_bodies else roots)
    if checked.external:
        _own_tensors(model, folders)  # case 2
        locations = {entry.value for t, _ in checked.external for entry in t.external_data if entry.key == "location"}
        remember_files(model, {location: folders.find(location)[0] for location in locations})
    _import(model, checked.unimported)  # case 3
    if not checked.is_sorted:  # case 4
        for graph in roots:
            graph.sort()
    if checked.repeated_name:  # case 5
        _separate_names(model)
    if checked.has_negative_dims:  # case 6
        _forget_negative_dims(model)
    return model


def own_copy(model: ir.Model) -> ir.Model:
    """A copy of `model` that shares its weights, in the form of `own_model`.

    Raises:
        MalformedError: what is wrong.
        InputError: the model cannot be copied, as its nodes are not in topological order.
    """
    unimported = check_ir(model)
    own = _copied(model)
    hand_on_parts(model, own)
    _own_tensors(own, None)
    _separate_names(own)
    _import(own, unimported)
    return own


def _copied(model: ir.Model) -> ir.Model:
    try:
        return model.clone()
    except RuntimeError as error:  # of onnx-ir, for a node that reads what no node before it writes
        raise InputError(
            f"{model.graph.name or 'model'}: its nodes are not in topological order; call model.graph.sort() first"
        ) from error


def _check_texts(graphs: Iterable[ir.Graph]) -> None:
    """What nodes carry along: more than all else together, and reached faster in onnx-ir than in protobuf."""
    keys: set[str | bytes] = set()
    texts: list[str | bytes | None] = []
    for graph in graphs:
        for node in graph:
            metadata = node.metadata_props
            if metadata:
                keys.update(metadata)
                texts.extend(metadata.values())
            texts.append(node.doc_string)
            if node.device_configurations:
                _check_devices(node)
    if bytes in {*map(type, keys), *map(type, texts)}:
        wrong = " ".join(printable(text)[:80] for text in (*keys, *texts) if isinstance(text, bytes))
        raise MalformedError(f"the metadata or doc_string of a node is not UTF-8: {wrong[:80]}")


def _check_devices(node: ir.Node) -> None:
    """Onnx-ir reads placements on devices that it then cannot write."""
    try:
        ir.serde.serialize_node(node)
    except ir.serde.SerdeError as error:
        raise MalformedError(f"{printable(node.name or node.op_type)}: its devices cannot be read") from error


def _own_tensors(model: ir.Model, folders: DataFolders | None) -> None:
    """Data files are read from where they are now; None: each tensor says in which folder that is, and is checked."""
    own: dict[int, DataFileTensor] = {}
    places: dict[str, DataFolders] = {}
    for tensor, put in tensor_slots(model):
        if not isinstance(tensor, ir.ExternalTensor) or isinstance(tensor, DataFileTensor):
            continue
        if id(tensor) not in own:
            around, location = folders, os.fspath(tensor.location)
            if around is None:
                base = os.fspath(tensor.base_dir)
                around = places.setdefault(base, DataFolders(base or os.curdir, must_exist=False))
                ends = tensor.offset or 0, tensor.length or 0, tensor.nbytes
                check_range(printable(tensor.name or ""), location, *ends, around)
            own[id(tensor)] = DataFileTensor(tensor, around.find(location)[0], around.folder)
        put(own[id(tensor)])


def _separate_names(model: ir.Model) -> None:
    """Give nodes that have the name of another node of their graph a name of their own."""
    for graph in graphs_of(model, ours=True):
        used = {node.name for node in graph}
        if len(used) == len(graph):
            continue
        numbers: dict[str, Iterator[int]] = {}
        for node in graph:
            if not node.name:
                continue
            if node.name not in numbers:
                numbers[node.name] = count(1)
                continue
            node.name = next(name for i in numbers[node.name] if (name := f"{node.name}_{i}") not in used)
            used.add(node.name)


def _forget_negative_dims(model: ir.Model) -> None:
    for graph in graphs_of(model, ours=True):
        for value in (*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)):
            shape = value.shape
            if shape is not None and any(isinstance(dim, int) and dim < 0 for dim in shape):
                value.shape = ir.Shape([None if isinstance(dim, int) and dim < 0 else dim for dim in shape])


def _import(model: ir.Model, unimported: dict[FunctionId, set[str]]) -> None:
    for imports in (model.opset_imports, *(function.opset_imports for function in model.functions.values())):
        if _ALIAS in imports:
            imports.setdefault("", imports.pop(_ALIAS))
    newest = int(onnx.defs.onnx_opset_version())
    for owner, domains in unimported.items():
        imports = model.opset_imports if owner == MAIN else model.functions[owner].opset_imports
        for domain in domains:
            imports[domain] = model.opset_imports.get(domain, 1 if domain else newest)
