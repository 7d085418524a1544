"""What one node must be to be read: how many inputs and outputs its operator takes, and the types of its attributes.

From the schemas of onnx, by the opset that is imported; from the contract for our ops; from one table for the norms of
ONNX Runtime. Of operators that none of them knows nothing is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final

import onnx

from rms_deploy.onnx_model.malformed import MalformedError
from rms_deploy.onnx_model.tensor_check import ELEMENT_TYPES
from rms_deploy.ops import schemas
from rms_deploy.ops.contract import DOMAIN, OPS, PLUGIN_DOMAIN, VERSION
from rms_deploy.ops.foreign_ops import (
    CONTRIB_DOMAIN,
    SIMPLIFIED_LAYER_NORMALIZATION,
    SKIP_LAYER_NORMALIZATION,
    SKIP_SIMPLIFIED_LAYER_NORMALIZATION,
)

__all__ = ["ATTRIBUTE_TYPES", "NodeRule", "call_rule", "node_rule"]

ATTRIBUTE_TYPES: Final[dict[int, str]] = {
    number: name for name, number in onnx.AttributeProto.AttributeType.items() if name != "UNDEFINED"
}

_SCHEMA_TYPES: Final = {getattr(onnx.defs.OpSchema.AttrType, name): number for number, name in ATTRIBUTE_TYPES.items()}
"""Of the schemas' own enumeration."""

_ANY: Final = 2**31 - 1
_FLOAT, _INT = (int(onnx.AttributeProto.FLOAT), int(onnx.AttributeProto.INT))


@dataclass(frozen=True)
class NodeRule:
    """What an operator takes."""

    min_inputs: int = 0
    max_inputs: int = _ANY
    needed_inputs: tuple[int, ...] = ()
    """Those that cannot be left out by an empty name."""
    min_outputs: int = 0
    max_outputs: int = _ANY
    needed_outputs: tuple[int, ...] = ()
    attributes: Mapping[str, int] = field(default_factory=dict)
    """The type of each."""
    needed_attributes: frozenset[str] = frozenset()
    element_type: str = ""
    """The attribute that is an element type, if one is."""
    is_closed: bool = False
    """Whether it has no other attributes; those that begin with two underscores are a runtime's own."""

    def check_ends(self, op_type: str, inputs: Sequence[str | None], outputs: Sequence[str | None]) -> None:
        """Inputs and outputs; one that is empty or None is left out.

        Raises:
            MalformedError: one is missing, or there are too many.
        """
        for kind, given, low, high, needed in (
            ("input", inputs, self.min_inputs, self.max_inputs, self.needed_inputs),
            ("output", outputs, self.min_outputs, self.max_outputs, self.needed_outputs),
        ):
            if len(given) < low:
                raise MalformedError(f"{op_type} has {_counted(len(given), kind)}; needs {low}")
            if len(given) > high:
                raise MalformedError(f"{op_type} has {_counted(len(given), kind)}; takes at most {high}")
            for index in needed:
                if index < len(given) and not given[index]:
                    raise MalformedError(f"{op_type}: {kind} {index + 1} is left out; it is needed")

    def check_element_type(self, op_type: str, value: int) -> None:
        """The value of the attribute that is an element type.

        Raises:
            MalformedError: it is none.
        """
        if value not in ELEMENT_TYPES:
            raise MalformedError(f"{op_type}: {self.element_type} is {value}, no element type")

    def check_attribute(self, op_type: str, name: str, kind: int) -> None:
        """One attribute of type `kind`.

        Raises:
            MalformedError: the operator has none of that name, or of another type.
        """
        wanted = self.attributes.get(name)
        if wanted is None:
            if self.is_closed and not name.startswith("__"):
                raise MalformedError(f"{op_type} has no attribute {name}")
        elif wanted != kind:
            given = ATTRIBUTE_TYPES.get(kind, "of no type")
            raise MalformedError(f"{op_type}: attribute {name} is {given}; needs {ATTRIBUTE_TYPES[wanted]}")

    def check_needed(self, op_type: str, names: Iterable[str]) -> None:
        """Whether `names` has all attributes that have no default.

        Raises:
            MalformedError: one is missing.
        """
        missing = self.needed_attributes.difference(names)
        if missing:
            raise MalformedError(f"{op_type} has no attribute {min(missing)}; it is needed")


def _counted(count: int, kind: str) -> str:
    return f"{count or 'no'} {kind}{'s' if count > 1 else ''}"


def call_rule(inputs: int, outputs: int) -> NodeRule:
    """What a call of a local function takes; the last ones may be left out."""
    return NodeRule(max_inputs=inputs, max_outputs=outputs)


_ELEMENT_TYPE_OF: Final = {("", "Cast"): "to"} | {(DOMAIN, op): "scale_type" for op in OPS}
_OPEN: Final = ("LayerNormalization",)
"""Operators of ONNX that ONNX Runtime has another schema for, with any attributes."""

_CONTRIB: Final[dict[tuple[str, str], NodeRule]] = {
    **{
        (domain, SIMPLIFIED_LAYER_NORMALIZATION.op_type): NodeRule(
            *(2, 2, (0, 1)), *(1, 2, (0,)), {"epsilon": _FLOAT, "axis": _INT, "stash_type": _INT}
        )
        for domain in SIMPLIFIED_LAYER_NORMALIZATION.domains
    },
    (CONTRIB_DOMAIN, SKIP_SIMPLIFIED_LAYER_NORMALIZATION.op_type): NodeRule(
        *(3, 4, (0, 1, 2)), *(1, 4, (0,)), {"epsilon": _FLOAT}
    ),
    (CONTRIB_DOMAIN, SKIP_LAYER_NORMALIZATION.op_type): NodeRule(
        *(3, 5, (0, 1, 2)), *(1, 4, (0,)), {"epsilon": _FLOAT}
    ),
}
"""The norms of ONNX Runtime."""


@cache
def node_rule(domain: str, op_type: str, version: int) -> NodeRule | None:
    """What an operator takes at opset `version` of its domain; None: nobody knows it.

    Of a newer opset than onnx knows, only that is asked which the newest known one asks and a newer one can hardly
    take back.
    """
    if (domain, op_type) in _CONTRIB:
        return _CONTRIB[domain, op_type]
    if domain in (DOMAIN, PLUGIN_DOMAIN):
        return _our_rule(domain, op_type)
    if version < 1:  # which ONNX Runtime takes for a domain that it does not need
        return None
    try:
        schema = onnx.defs.get_schema(op_type, max_inclusive_version=version, domain=domain)
    except onnx.defs.SchemaError:
        return None
    if schema.deprecated:
        return None
    return _of_schema(schema, is_newer=version > _newest(domain))


def _our_rule(domain: str, op_type: str) -> NodeRule | None:
    if op_type not in OPS:
        return None
    schemas.register()
    rule = _of_schema(onnx.defs.get_schema(op_type, max_inclusive_version=VERSION, domain=DOMAIN), is_newer=False)
    rule = replace(rule, min_outputs=1, needed_outputs=(0,))  # tools prune a Sum that nobody reads; `fuse` restores it
    if domain == DOMAIN:
        return rule
    text = int(onnx.AttributeProto.STRING)
    plugin = {"plugin_namespace": text, "plugin_version": text, **rule.attributes}
    return NodeRule(
        *(rule.min_inputs, rule.max_inputs, rule.needed_inputs),
        *(rule.min_outputs, rule.max_outputs, rule.needed_outputs),
        *(plugin, rule.needed_attributes, rule.element_type),
    )


@cache
def _newest(domain: str) -> int:
    return int(onnx.defs.onnx_opset_version()) if not domain else 2**31


def _of_schema(schema: onnx.defs.OpSchema, *, is_newer: bool) -> NodeRule:
    attributes = {name: _SCHEMA_TYPES[attribute.type] for name, attribute in schema.attributes.items()}
    if is_newer:
        return NodeRule(
            min_inputs=min(schema.min_input, 1), min_outputs=min(schema.min_output, 1), attributes=attributes
        )
    single = onnx.defs.OpSchema.FormalParameterOption.Single
    return NodeRule(
        *(schema.min_input, schema.max_input),
        tuple(i for i, end in enumerate(schema.inputs) if end.option == single),
        *(schema.min_output, schema.max_output),
        tuple(i for i, end in enumerate(schema.outputs) if end.option == single),
        attributes,
        frozenset(name for name, attribute in schema.attributes.items() if attribute.required),
        _ELEMENT_TYPE_OF.get((schema.domain, schema.name), ""),
        is_closed=schema.name not in _OPEN,
    )
