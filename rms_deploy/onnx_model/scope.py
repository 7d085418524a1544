"""What nodes of the main graph or of a local function may be: operators by imported opset, and local functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import onnx

from rms_deploy.onnx_model.malformed import MalformedError, printable
from rms_deploy.onnx_model.node_rules import NodeRule, call_rule, node_rule
from rms_deploy.onnx_model.type_check import check_text
from rms_deploy.ops.contract import DOMAIN

__all__ = ["MAIN", "FunctionId", "Functions", "Scope", "functions_of", "imports_of"]

FunctionId = tuple[str, str, str]
"""Domain, name and overload."""

MAIN: Final[FunctionId] = ("", "", "")
"""Stands for the main graph, where a function could."""

_ALIAS: Final = "ai.onnx"
_MAX_OPSET: Final = 1000
_UNKNOWN: Final = NodeRule()


@dataclass(frozen=True)
class Functions:
    """The local functions of a model."""

    rules: Mapping[FunctionId, NodeRule]
    """What calls of each take."""

    @cached_property
    def operators(self) -> frozenset[tuple[str, str]]:
        """Domain and name of each, as nodes have them; a node has the overload besides."""
        return frozenset(key[:2] for key in self.rules)


def functions_of(model: onnx.ModelProto) -> Functions:
    """The local functions of a model.

    Raises:
        MalformedError: two have one name.
    """
    functions: dict[FunctionId, NodeRule] = {}
    for function in model.functions:
        key = (function.domain, function.name, function.overload)
        for part in key:
            check_text("the name of a function", part)
        if key in functions:
            raise MalformedError(f"function {printable(function.name)} is defined twice")
        functions[key] = call_rule(len(function.input), len(function.output))
    return Functions(functions)


class Scope:
    """What is known while the nodes of the main graph or of a function are walked over, bodies included."""

    def __init__(self, owner: FunctionId, imports: Iterable[tuple[str, int]], functions: Functions) -> None:
        """`owner`: whose nodes; `imports`: domain and version of its opsets.

        Raises:
            MalformedError: an opset is absurd.
        """
        self.owner: Final = owner
        self.is_function: Final = owner != MAIN
        self.rules: Final[dict[tuple[str, str], NodeRule]] = {}
        """By domain and operator, as far as they were asked for."""
        self.called: Final = functions.operators
        self.calls: Final[Counter[FunctionId]] = Counter()
        self.nodes = 0
        self.unimported: Final[set[str]] = set()
        """Domains that nodes are of and that no opset is imported of."""
        self._functions: Final = functions
        self._imports: Final[dict[str, int]] = {}
        for domain, version in imports:
            check_text("the domain of an imported opset", domain)
            plain = "" if domain == _ALIAS else domain
            if version > _MAX_OPSET or (version < 1 and not plain):
                raise MalformedError(f"opset {version} of domain {printable(domain)!r} does not exist")
            self._imports[plain] = version

    def rule(self, domain: str, op_type: str) -> NodeRule:
        """What an operator takes that was not asked for before.

        Raises:
            MalformedError: there can be none: no text, no operator.
        """
        check_text("the operator of a node", op_type)
        check_text("the domain of a node", domain)
        if not op_type:
            raise MalformedError("has no operator")
        plain = "" if domain == _ALIAS else domain
        version = self._imports.get(plain)
        if version is None:
            self.unimported.add(plain)
            version = _MAX_OPSET if plain else int(onnx.defs.onnx_opset_version())
        rule = node_rule(plain, op_type, version) or _UNKNOWN
        self.rules[domain, op_type] = rule
        return rule

    def call(self, key: FunctionId, rule: NodeRule) -> NodeRule:
        """What a node takes whose operator, `key`, may be a local function; the call is counted."""
        called = self._functions.rules.get(key)
        if called is None:
            return rule
        self.calls[key] += 1
        return rule if key[0] == DOMAIN else called


def imports_of(model: onnx.ModelProto | onnx.FunctionProto) -> list[tuple[str, int]]:
    """Domain and version of the opsets that are imported."""
    return [(entry.domain, entry.version) for entry in model.opset_import]
