"""What a message of the library says in Python, said in flags: the library names its arguments in backticks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

import click

__all__ = ["with_flags"]

_CODE = re.compile(r"`([^`]+)`")
_ELSEWHERE = {"rms_deploy.models.MODELS": "rms-deploy export --list"}
"""What is no argument in Python and no flag here."""


def with_flags(text: str, command: click.Command | None = None) -> str:
    """`text`, each argument in backticks as the flag of a command that takes it.

        `shapes`                         --shape
        `allow_precision_gain=True`      --allow-precision-gain
        `functions=False`                --no-functions
        `runtime="tensorrt-rtx"`         --runtime tensorrt-rtx
        `shapes={"x": (1, 128)}`         --shape x=1x128
        `rms_deploy.bench_op`            rms-deploy bench-op

    What the command has no flag for stays as it is.

    Args:
        text: a message of the library.
        command: whose flags; default: the command that runs.
    """
    context = click.get_current_context(silent=True)
    command = command or (context.command if context else None)
    return _CODE.sub(lambda found: _translated(found[1], command) or found[0], text)


def _translated(code: str, command: click.Command | None) -> str | None:
    if code in _ELSEWHERE:
        return _ELSEWHERE[code]
    if re.fullmatch(r"rms_deploy\.\w+", code):
        return code.replace(".", " ").replace("_", "-")
    try:
        (statement,) = ast.parse(code).body
        if command is None:
            return None
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Name):
            return _flag(command, statement.value.id)
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            return _given(command, statement.targets[0].id, ast.literal_eval(statement.value))
    except (SyntaxError, ValueError):  # not Python, or not one value
        return None
    return None


def _given(command: click.Command, name: str, value: Any) -> str | None:
    """The flags that give an argument this value."""
    if isinstance(value, bool):
        return _switch(command, name, value)
    flag = _flag(command, name)
    return None if flag is None else " ".join(f"{flag} {part}" for part in _parts(value))


def _parts(value: Any) -> Iterator[str]:
    """What a flag is given, once for each element of a list or a mapping."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield f"{key}={'x'.join(map(str, each)) if isinstance(each, tuple | list) else each}"
    elif isinstance(value, tuple | list):
        yield ",".join(map(str, value))
    else:
        yield str(value)


def _flag(command: click.Command, name: str) -> str | None:
    parameter = next((each for each in command.params if each.name == name), None)
    if isinstance(parameter, click.Argument):
        return parameter.human_readable_name
    return None if parameter is None else max(parameter.opts, key=_is_long)


def _switch(command: click.Command, name: str, value: bool) -> str | None:
    for parameter in command.params:
        if parameter.name == name:
            options = parameter.opts if value else parameter.secondary_opts
            return options[0] if options else None
        if parameter.name == f"no_{name}" and not value:
            return parameter.opts[0]
    return None


def _is_long(option: str) -> bool:
    return option.startswith("--")
