"""Protocol buffers' text format, as far as a config.pbtxt needs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["EnumName", "as_text"]


class EnumName(str):
    """The name of an enum's value, which is written without quotes."""

    __slots__ = ()


def as_text(message: Mapping[str, Any]) -> str:
    """A message, one field in a line.

    Args:
        message: value by the field's name. A list is a repeated field, a mapping a message of its own, None a field
            that is left out.
    """
    return "".join(f"{line}\n" for line in _lines(message, ""))


def _lines(message: Mapping[str, Any], indent: str) -> Iterator[str]:
    for field, value in message.items():
        values = value if isinstance(value, list) else [] if value is None else [value]
        if values and all(isinstance(each, int) for each in values) and isinstance(value, list):
            yield f"{indent}{field}: [{', '.join(map(str, values))}]"
            continue
        for each in values:
            if isinstance(each, Mapping):
                yield f"{indent}{field} {{"
                yield from _lines(each, f"{indent}  ")
                yield f"{indent}}}"
            else:
                yield f"{indent}{field}: {_scalar(each)}"


def _scalar(value: EnumName | str | bool | int) -> str:
    if isinstance(value, EnumName):
        return str(value)
    if isinstance(value, str):
        return f'"{"".join(map(_escaped, value))}"'
    return str(value).lower()  # true, false, a number


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return f"\\{ord(character):03o}" if ord(character) < 32 else character
