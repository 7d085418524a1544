"""The Python contract against the C++ header."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from rms_deploy.ops import contract

HEADER = Path(__file__).parents[2] / "plugins" / "contract.h"


@pytest.fixture(scope="module")
def constants() -> dict[str, str]:
    """Every `inline constexpr <type> kName = value;` of the header, by name."""
    text = HEADER.read_text()
    return dict(re.findall(r"inline constexpr [\w\s:*]+?\b(k\w+)(?:\[\])? = (.+?);", text))


def text_of(value: str) -> str:
    return value.strip('"')


def test_domain_and_versions(constants: dict[str, str]) -> None:
    assert text_of(constants["kDomain"]) == contract.DOMAIN
    assert int(constants["kVersion"]) == contract.VERSION
    assert text_of(constants["kPluginVersion"]) == contract.PLUGIN_VERSION


def kinds() -> dict[str, tuple[bool, bool, bool, str, str]]:
    """The rows of the header's table: is_add, is_partial, is_reciprocal, gate, and the signature behind it, by name."""
    flag = "(true|false)"
    row = rf'\{{"(\w+)", {flag}, {flag}, {flag}, Gate::k(\w+)\}},\s*// (.+)'
    found = re.findall(row, HEADER.read_text())
    return {name: (*(text == "true" for text in flags), gate, line) for name, *flags, gate, line in found}


GATES = {("", ""): "None", ("SiluGate", ""): "SiluFirst", ("", "SiluGate"): "Silu", ("", "SigmoidGate"): "Sigmoid"}


def test_kinds() -> None:
    parts = {
        op.name: (op.is_add, op.is_partial, op.is_reciprocal, GATES[op.prologue.removeprefix("Add"), op.epilogue])
        for op in contract.OPS.values()
    }
    assert {name: kind[:4] for name, kind in kinds().items()} == parts


def test_signatures_in_the_header_comments() -> None:
    for op in contract.OPS.values():
        inputs, outputs = (", ".join(f"{n}: {t}" for n, t in names) for names in (op.inputs, op.outputs))
        assert kinds()[op.name][4] == f"({inputs}) -> {outputs}"


def test_each_op_without_a_gate_has_a_twin_with_its_signature() -> None:
    twins = [op for op in contract.OPS.values() if op.is_reciprocal]
    assert 2 * len(twins) == len([op for op in contract.OPS.values() if not op.is_gated])
    for twin in twins:
        (op,) = (op for op in contract.OPS.values() if not op.is_reciprocal and contract.reciprocal(op) == twin)
        assert (op.inputs, op.outputs, op.attributes) == (twin.inputs, twin.outputs, twin.attributes)


def test_no_older_version_takes_a_newer_op_for_a_renamed_one() -> None:
    """`onnx.compose` puts a prefix before the name of a function, and `fuse` takes it away again."""
    old = [op for op in contract.OPS.values() if not (op.is_reciprocal or op.is_gated)]
    for op in contract.OPS.values():
        if op not in old:
            assert not [o for o in old if op.name.endswith(o.name) and (o.inputs, o.outputs) == (op.inputs, op.outputs)]
            assert op.is_gated or not op.name.endswith(tuple(o.name for o in old))


def test_element_types() -> None:
    members = re.search(r"enum class ElementType : int32_t \{(.+?)\}", HEADER.read_text())
    assert members is not None
    values = {name.lower(): int(value) for name, value in re.findall(r"k(\w+) = (\d+)", members[1])}
    assert values == contract.ELEMENT_TYPES


@pytest.mark.parametrize("op", contract.OPS.values(), ids=contract.OPS)
def test_attributes(op: contract.Op, constants: dict[str, str]) -> None:
    for attribute in op.attributes:
        constant = "k" + "".join(part.title() for part in attribute.name.split("_"))
        assert text_of(constants[constant]) == attribute.name
        default = constants.get(f"{constant}Default")
        if attribute.default is None:
            assert default is None
        elif attribute.kind == "ints":
            assert tuple(int(v) for v in default.strip("{}").split(",")) == attribute.default
        elif attribute.kind == "int":
            assert int(default) == attribute.default
        else:
            assert np.float32(default.rstrip("F")) == np.float32(attribute.default)


def test_header_has_no_attribute_more(constants: dict[str, str]) -> None:
    known = {a.name for op in contract.OPS.values() for a in op.attributes}
    snake_case = {text_of(v) for k, v in constants.items() if v.startswith('"') and text_of(v).islower()}
    assert snake_case - {contract.DOMAIN} == known
