"""The check of one graph, and of the bodies inside it: names, order, nodes, attributes and tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import onnx

from rms_deploy.onnx_model.content_check import PLAIN, ContentCheck
from rms_deploy.onnx_model.graph_order import check_acyclic
from rms_deploy.onnx_model.malformed import MalformedError, node_label, printable
from rms_deploy.onnx_model.node_rules import NodeRule
from rms_deploy.onnx_model.scope import Scope
from rms_deploy.onnx_model.type_check import check_text, check_texts, check_value

__all__ = ["GraphCheck"]

_MAX_DEPTH: Final = 32
"""Of graphs in graphs: protobuf reads no deeper ones."""

_Outer = tuple[set[str], ...]
"""The names of each graph around this one."""

_Body = tuple[int, str, onnx.GraphProto]
"""A graph in an attribute: the index and the label of its node."""


class GraphCheck(ContentCheck):
    """Walks over graphs, and keeps what it came across."""

    def __init__(self, *, is_ours: bool = False) -> None:
        """`is_ours`: this package made the graphs, from what was checked: names, arity, imports and order count."""
        super().__init__(is_ours=is_ours)
        self.is_sorted = True
        """Whether every node comes after those that it reads from."""
        self.has_bodies = False
        self.repeated_name = ""
        """The first name that two nodes of a graph have, which ONNX Runtime refuses."""
        self.has_negative_dims = False
        """Whether the declared shape of a value has one, which means what no dim means: it is unknown."""

    def graph(self, graph: onnx.GraphProto, outer: _Outer, scope: Scope) -> set[str]:
        """Check a graph with all that it holds; the names of `outer` that it reads.

        Raises:
            MalformedError: what is wrong, with the name of the node, value or tensor.
        """
        if len(outer) > _MAX_DEPTH:
            raise MalformedError(f"graphs are nested more than {_MAX_DEPTH} deep")
        check_text("the name of a graph", graph.name)
        check_text("the doc_string of a graph", graph.doc_string)
        check_texts("the metadata of a graph", graph.metadata_props)
        for value in () if self.is_ours else (*graph.input, *graph.output, *graph.value_info):
            self.has_negative_dims |= check_value(value)
        for annotation in graph.quantization_annotation:
            check_text("the name of a quantized tensor", annotation.tensor_name)
            check_texts("the quantization of a tensor", annotation.quant_parameter_tensor_names)
        defined = {value.name for value in graph.input}
        if len(defined) < len(graph.input):
            raise MalformedError(f"two inputs of graph {graph.name} have one name")
        for tensor in graph.initializer:
            self.tensor(tensor)
            defined.add(tensor.name)
        for sparse in graph.sparse_initializer:
            self.sparse(sparse)
            defined.add(sparse.values.name)
        read = self.nodes(graph.node, defined, outer, scope)
        for value in graph.output:
            if not value.name or value.name not in defined:
                raise MalformedError(f"output {printable(value.name)!r} is computed nowhere")
        return read

    def nodes(self, nodes: Sequence[onnx.NodeProto], defined: set[str], outer: _Outer, scope: Scope) -> set[str]:
        """Check the nodes of one graph; the names of `outer` that they read. Their outputs are added to `defined`.

        Raises:
            MalformedError: what is wrong, with the name of the node.
        """
        labels: list[str] = []
        bodies: list[_Body] = []
        late = self._walk(nodes, defined, scope, labels, bodies)
        scope.nodes += len(labels)
        if bytes in {*map(type, labels), *map(type, defined)}:
            raise MalformedError("the name of a node or of a value is not UTF-8")
        named = [label for label in labels if label]
        if len(set(named)) < len(named) and not scope.is_function:
            self.repeated_name = self.repeated_name or _repeated(named)
        reads: dict[int, set[str]] = {}
        self.has_bodies |= bool(bodies)
        for index, label, body in bodies:
            reads.setdefault(index, set()).update(self._body(label, body, (*outer, defined), scope))
        for index, names in late:
            reads.setdefault(index, set()).update(names)
        captured: set[str] = set()
        for index, read in reads.items():
            for name in read - defined:
                if not any(name in names for names in outer):
                    raise MalformedError(f"{node_label(nodes[index])}: input {printable(name)} is defined nowhere")
                captured.add(name)
        if reads:
            self._check_order(nodes, reads)
        return captured

    def _body(self, label: str, body: onnx.GraphProto, outer: _Outer, scope: Scope) -> set[str]:
        try:
            return self.graph(body, outer, scope)
        except MalformedError as error:
            raise MalformedError(f"{label}: {error}") from None

    def _walk(
        self,
        nodes: Sequence[onnx.NodeProto],
        defined: set[str],
        scope: Scope,
        labels: list[str],
        bodies: list[_Body],
    ) -> list[tuple[int, list[str]]]:
        """What each node reads before it is defined, by index.

        The check costs what this loop costs, so it calls nothing for a node that is as it should be.
        """
        rules, called, ours = scope.rules, scope.called, self.is_ours
        late: list[tuple[int, list[str]]] = []
        defined.add("")
        try:
            for index, node in enumerate(nodes):
                op_type, domain = node.op_type, node.domain
                inputs, outputs, attributes = node.input[:], node.output[:], node.attribute
                key = (domain, op_type)
                labels.append(node.name)
                rule = rules.get(key) or scope.rule(domain, op_type)
                if key in called:
                    rule = scope.call((domain, op_type, node.overload), rule)
                if (
                    not rule.min_inputs <= len(inputs) <= rule.max_inputs
                    or not rule.min_outputs <= len(outputs) <= rule.max_outputs
                    or "" in inputs
                    or "" in outputs
                ):
                    rule.check_ends(op_type, inputs, outputs)
                if attributes:
                    if ours:
                        holding = [attribute for attribute in attributes if attribute.type not in PLAIN]
                        bodies += [(index, node_label(node), body) for one in holding for body in self.attribute(one)]
                    else:
                        self._attributes(node, attributes, rule, index, bodies)
                elif rule.needed_attributes:
                    rule.check_needed(op_type, ())
                if not defined.issuperset(inputs):
                    late.append((index, [name for name in inputs if name not in defined]))
                before = len(defined)
                defined.update(outputs)
                if len(defined) - before != len(outputs) and len(defined) - before != len([o for o in outputs if o]):
                    raise MalformedError("its output is defined twice")
        except MalformedError as error:
            raise MalformedError(f"{node_label(node)}: {error}") from None
        return late

    def _attributes(
        self,
        node: onnx.NodeProto,
        attributes: Sequence[onnx.AttributeProto],
        rule: NodeRule,
        index: int,
        bodies: list[_Body],
    ) -> None:
        names = []
        wanted = rule.attributes
        for attribute in attributes:
            name, kind = attribute.name, attribute.type
            names.append(name)
            if wanted.get(name) != kind:
                check_text("the name of an attribute", name)
                rule.check_attribute(node.op_type, printable(name), kind)
            elif name == rule.element_type and not attribute.ref_attr_name:
                rule.check_element_type(node.op_type, attribute.i)
            if kind not in PLAIN or attribute.ref_attr_name:
                bodies += [(index, node_label(node), body) for body in self.attribute(attribute)]
        if rule.needed_attributes and not rule.needed_attributes.issubset(names):
            rule.check_needed(node.op_type, names)

    def _check_order(self, nodes: Sequence[onnx.NodeProto], reads: dict[int, set[str]]) -> None:
        """Whether what is read before it is defined, or read by a body, is no circle."""
        defined_at = {name: index for index, node in enumerate(nodes) for name in node.output}
        if any(defined_at.get(name, -1) >= index for index, names in reads.items() for name in names):
            self.is_sorted = False
            check_acyclic(
                [
                    (node_label(node), [*node.input, *reads.get(index, ())], node.output[:])
                    for index, node in enumerate(nodes)
                ]
            )


def _repeated(names: list[str]) -> str:
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
