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


def kinds() -> dict[str, tuple[object, ...]]:
    """The rows of the header's table, by name: its enumerators and flags, and the signature in front of them."""
    row = r'// (.+)\n\s*\{"(\w+)", Sum::k(\w+), (true|false), (true|false), Gate::k(\w+), End::k(\w+)\}'
    found = re.findall(row, HEADER.read_text())
    return {
        name: (total, is_partial == "true", is_reciprocal == "true", gate, end, line)
        for line, name, total, is_partial, is_reciprocal, gate, end in found
    }


SUMS = {"Add": "Rounded", "AddFloat32": "Float32"}
GATES = {"SiluGate": "Silu", "SigmoidGate": "Sigmoid"}


def test_kinds() -> None:
    parts = {
        op.name: (
            SUMS.get(op.prologue, "None"),
            op.is_partial,
            op.is_reciprocal,
            GATES.get(op.gate, "None") + "First" * op.gates_first,
            "None" if op.epilogue in GATES else op.epilogue or "None",
        )
        for op in contract.OPS.values()
    }
    assert {name: kind[:5] for name, kind in kinds().items()} == parts


def test_signatures_in_the_header_comments() -> None:
    for op in contract.OPS.values():
        inputs, outputs = (", ".join(f"{n}: {t}" for n, t in names) for names in (op.inputs, op.outputs))
        assert kinds()[op.name][5] == f"({inputs}) -> {outputs}"


def test_the_oldest_ops_have_twins_with_its_signature() -> None:
    twins = [op for op in contract.OPS.values() if op.is_reciprocal]
    assert {op.name for op in twins} == {f"{name}RMSNormReciprocal" for name in ("", "Partial", "Add")}
    for twin in twins:
        (op,) = (op for op in contract.OPS.values() if not op.is_reciprocal and contract.reciprocal(op) == twin)
        assert (op.inputs, op.outputs, op.attributes) == (twin.inputs, twin.outputs, twin.attributes)


def test_no_older_version_takes_a_newer_op_for_a_renamed_one() -> None:
    """`onnx.compose` puts a prefix before the name of a function, and `fuse` takes it away again."""
    old = [contract.OPS[name] for name in ("RMSNorm", "PartialRMSNorm", "AddRMSNorm")]
    for op in contract.OPS.values():
        if op not in old:
            assert not [o for o in old if op.name.endswith(o.name) and (o.inputs, o.outputs) == (op.inputs, op.outputs)]
            assert op.prologue or not op.name.endswith(tuple(o.name for o in old))


def test_element_types() -> None:
    members = re.search(r"enum class ElementType : int32_t \{(.+?)\}", HEADER.read_text())
    assert members is not None
    values = {name.lower(): int(value) for name, value in re.findall(r"k(\w+) = (\d+)", members[1])}
    assert values == contract.ELEMENT_TYPES


def test_quantized_types() -> None:
    members = re.search(r"enum class QuantizedType : int32_t \{ kNone = 0, (.+?)\}", HEADER.read_text())
    assert members is not None
    values = {name.lower(): int(value) for name, value in re.findall(r"k(\w+) = (\d+)", members[1])}
    assert values == contract.QUANTIZED_TYPES


def test_the_op_that_an_op_quantises() -> None:
    assert contract.ADD_RMS_NORM_QUANTIZE.without_quantization is contract.ADD_RMS_NORM
    assert contract.RMS_NORM_SHIFT.without_quantization is contract.RMS_NORM_SHIFT


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
