"""The text format: what is written is read back by protobuf itself."""

from __future__ import annotations

import pytest
from google.protobuf import struct_pb2, text_format, type_pb2

from rms_deploy.deployment.protobuf_text import EnumName, as_text


def test_every_kind_of_field() -> None:
    message = {
        "name": "a",
        "oneofs": ["x", "y"],
        "fields": [{"number": 1, "packed": True, "kind": EnumName("TYPE_INT64")}, {"number": -2, "packed": False}],
        "source_context": {},
        "edition": None,
    }
    text = as_text(message)
    assert "edition" not in text
    read = text_format.Parse(text, type_pb2.Type())
    assert (read.name, list(read.oneofs), read.HasField("source_context")) == ("a", ["x", "y"], True)
    assert [(field.number, field.packed, field.kind) for field in read.fields] == [(1, True, 3), (-2, False, 0)]


def test_numbers_of_a_list_stand_in_one_line() -> None:
    assert as_text({"dims": [-1, 16]}) == "dims: [-1, 16]\n"
    assert as_text({"dims": []}) == ""


@pytest.mark.parametrize("text", ["", 'a "name" \\ of', "new\nline\ttab\x01\x1f7", "Größe 寸", "'", "${x}"])
def test_any_string(text: str) -> None:
    assert text_format.Parse(as_text({"string_value": text}), struct_pb2.Value()).string_value == text
