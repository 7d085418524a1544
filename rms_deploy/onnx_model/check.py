"""The check of a model: one walk over everything that it holds, before anything of it is used.

What passes is read without a surprise: every name is text, every node has the inputs, outputs and attributes that its
operator needs, every value is computed once and from what is there, every tensor has the data that its dims need, in
the model or in a file beside it, and functions end.

Nothing is refused that ONNX Runtime runs, but for what it never looks at or no Python can hold: names that are not
UTF-8, more than 64 dims, maps, broken tensors that no node reads, more than 1,000,000 nodes once every call of a
function is written out, and a sparse tensor of more than 128 MiB that is 64 times as large when dense.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from rms_deploy.onnx_model.graph_check import GraphCheck
from rms_deploy.onnx_model.graph_order import check_calls
from rms_deploy.onnx_model.malformed import MalformedError, printable
from rms_deploy.onnx_model.scope import MAIN, FunctionId, Functions, Scope, functions_of, imports_of
from rms_deploy.onnx_model.type_check import check_text, check_texts, check_value

__all__ = ["Checked", "check", "check_written"]


@dataclass(frozen=True)
class Checked:
    """What the walk came across."""

    external: list[tuple[onnx.TensorProto, int]]
    """Tensors whose data lies in another file, with the bytes that each needs."""
    is_sorted: bool
    """Whether every node comes after those that it reads from."""
    has_sparse: bool
    """Whether there are sparse tensors."""
    has_bodies: bool
    """Whether nodes hold graphs."""
    repeated_name: str
    """The first name that two nodes have; empty: there is none."""
    has_negative_dims: bool
    """Whether the declared shape of a value has a negative dim."""
    unimported: dict[FunctionId, set[str]]
    """Domains that nodes of each function, or of the main graph, are of and that no opset is imported of."""


def check(model: onnx.ModelProto, *, is_ours: bool = False) -> Checked:
    """Walk over `model` once; `is_ours`: without what is certain of a model that this package made.

    Raises:
        MalformedError: what is wrong, with the name of the node, value or tensor.
    """
    for what in ("producer_name", "producer_version", "domain", "doc_string"):
        check_text(f"the {what} of the model", getattr(model, what))
    check_texts("the metadata of the model", model.metadata_props)
    for configuration in model.configuration:
        for name in (configuration.name, *configuration.device):
            check_text("the name of a device", name)
    functions = functions_of(model)
    walk = GraphCheck(is_ours=is_ours)
    main = Scope(MAIN, imports_of(model), functions)
    walk.graph(model.graph, (), main)
    scopes = [main, *(_function(function, functions, walk) for function in model.functions)]
    check_calls({scope.owner: scope.calls for scope in scopes}, {scope.owner: scope.nodes for scope in scopes}, MAIN)
    for training in model.training_info:
        for graph in (training.initialization, training.algorithm):
            _tensors_of(graph, walk)
    return Checked(
        external=walk.external,
        is_sorted=walk.is_sorted,
        has_sparse=walk.has_sparse,
        has_bodies=walk.has_bodies,
        repeated_name=walk.repeated_name,
        has_negative_dims=walk.has_negative_dims,
        unimported={scope.owner: scope.unimported for scope in scopes if scope.unimported},
    )


def check_written(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """The tensors whose data lies in other files, of a model that is about to be written.

    Raises:
        RuntimeError: the model is not valid: a fault of this package, as it was valid when it was opened.
    """
    try:
        checked = check(model, is_ours=True)
        if checked.repeated_name:
            raise MalformedError(f"two nodes have the name {printable(checked.repeated_name)}")
        for (_, name, _), domains in checked.unimported.items():
            raise MalformedError(f"{name or 'the graph'} imports no opset of domain {min(domains)!r}")
    except MalformedError as error:
        raise RuntimeError(f"the model to be written is not valid, please report this: {error}") from error
    return [tensor for tensor, _ in checked.external]


def _function(function: onnx.FunctionProto, functions: Functions, walk: GraphCheck) -> Scope:
    label = f"function {printable(function.name)}"
    scope = Scope((function.domain, function.name, function.overload), imports_of(function), functions)
    for name in (*function.input, *function.output, *function.attribute):
        check_text(f"{label}: a name", name)
    check_text(f"{label}: its doc_string", function.doc_string)
    check_texts(f"{label}: its metadata", function.metadata_props)
    for value in function.value_info:
        walk.has_negative_dims |= check_value(value)
    defined = set(function.input)
    try:
        walk.nodes(function.node, defined, (), scope)
        for attribute in function.attribute_proto:
            for graph in walk.attribute(attribute):
                walk.graph(graph, (), scope)
        for name in function.output:
            if name not in defined:
                raise MalformedError(f"output {printable(name)} is computed nowhere")
    except MalformedError as error:
        raise MalformedError(f"{label}: {error}") from None
    return scope


def _tensors_of(graph: onnx.GraphProto, walk: GraphCheck) -> None:
    """Those of a graph for training, which no one here reads: where their data lies."""
    graphs = [graph]
    for inner in graphs:  # grows
        for tensor in inner.initializer:
            walk.tensor(tensor)
        for sparse in inner.sparse_initializer:
            walk.sparse(sparse)
        for node in inner.node:
            for attribute in node.attribute:
                graphs += walk.attribute(attribute)
