"""What must hold of a file that the product was given, valid or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import rms_deploy
from rms_deploy.errors import RmsDeployError

from .evaluator import Arrays, evaluate
from .original import OracleError, Original, checks, is_about_untouched, is_own_lie, loads, optimiser_differs, why_not
from .running import differs, load, run

__all__ = ["CANARY", "Options", "Trial", "one_line"]

TARGETS = ("fused", "fused", "fused", "standard", "onnxruntime", "tensorrt-plugin", "decomposed")
CANARY = b"of-no-model-0f5d2c" * 200
"""Content of a file that lies outside the folder of the model: it must never be in an output."""


@dataclass(frozen=True)
class Options:
    """How `fuse` is called, by seed."""

    target: str
    functions: bool
    residual: bool
    verify: bool | None
    external: bool
    elsewhere: bool
    """Write to another folder than that of the model."""

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Options:
        chance = rng.random(5)
        return cls(
            target=TARGETS[int(rng.integers(len(TARGETS)))],
            functions=bool(chance[0] < 0.8),
            residual=bool(chance[1] < 0.8),
            verify=(None, None, False)[int(rng.integers(3))],
            external=bool(chance[3] < 0.2),
            elsewhere=bool(chance[4] < 0.3),
        )

    @property
    def plain(self) -> bool:
        """Whether nothing is asked of a model without norms."""
        return self.target == "fused" and not self.external and not self.elsewhere

    def keywords(self) -> dict[str, Any]:
        return {"target": self.target, "functions": self.functions, "residual": self.residual, "verify": self.verify}


@dataclass
class Trial:
    """One file in one folder; `stage` is told what begins, so that a crash or a hang has a name."""

    folder: Path
    options: Options
    stage: Callable[[str], None]

    def fuse(self, source: Path) -> tuple[Any, Path]:
        """To a file; RmsDeployError is for the caller."""
        output = self.folder / "other" / "fused.onnx" if self.options.elsewhere else self.folder / "fused.onnx"
        output.parent.mkdir(exist_ok=True)
        self.stage("fuse")
        result = rms_deploy.fuse(source, output, save_as_external=self.options.external, **self.options.keywords())
        self.stage("written")
        return result, output

    def judge(self, original: Original, output: Path, *, target: str, functions: bool = True) -> str:
        """The output is valid, loads and computes the same where the original did; how that was seen."""
        self.stage("candidate")
        # of which onnx knows nothing
        foreign = b"SimplifiedLayerNormalization" in output.read_bytes()
        runs = original.expected is not None
        if (
            original.valid
            and runs
            and not foreign
            and not checks(output)
            and not is_own_lie(original.path, output, checks)
        ):
            raise OracleError("fails onnx.checker", why_not(output))
        if target == "tensorrt-plugin" and b"trt.plugins" in output.read_bytes():
            return "checked only"
        ways = [False, True] if functions else [True]
        results = [self._run(original, output, with_library) for with_library in ways if original.loads[with_library]]
        if original.by == "evaluator" and functions:
            try:
                self._compare(original, evaluate(output, original.feeds), "evaluated")
                results.append("evaluated")
            except OracleError:
                raise
            except Exception:
                results.append("not evaluated")
        return ", ".join(dict.fromkeys(results)) or "checked only"

    def _run(self, original: Original, output: Path, with_library: bool) -> str:
        library = rms_deploy.onnxruntime_library() if with_library else None
        name = "with our library" if with_library else "without our library"
        try:
            session = load(output, library=library, optimize=True)
        except Exception as error:
            if not loads(original.path, library, optimize=True):
                return "loaded"
            if original.expected is None:
                return "does not load, and the original does not run"
            if is_own_lie(original.path, output, partial(loads, library=library, optimize=False)):
                return "does not load, as what the original declares is wrong"
            only = ", only unoptimised" if loads(output, library, optimize=False) else ""
            raise OracleError(f"does not load {name}{only}", " ".join(str(error).split())) from error
        if original.expected is None or original.by != "onnxruntime":
            return "loaded"
        try:
            actual = run(session, original.feeds)
        except Exception as error:
            if optimiser_differs(original, library) or is_about_untouched(error, original.path, output):
                return "ONNX Runtime's optimiser differs by itself"
            if "X.shape[axis:] must be at least 1" in str(error):  # where no shape says so before
                return "ONNX Runtime's own norm refuses an axis of size 0"
            raise OracleError(f"does not run {name}", " ".join(str(error).split())) from error
        try:
            self._compare(original, actual, name)
        except OracleError:
            if not optimiser_differs(original, library):
                raise
            return "ONNX Runtime's optimiser differs by itself"
        return "equal"

    def _compare(self, original: Original, actual: Arrays, name: str) -> None:
        assert original.expected is not None
        why = differs(actual, original.expected, original=original.path, feeds=original.feeds, element=original.element)
        if why:
            raise OracleError(f"wrong numbers {name}", why)

    def has_no_secret(self) -> None:
        """Nothing of a file outside the folder is in what was written."""
        for written in self.folder.rglob("fused.onnx*"):
            data = written.read_bytes()
            if CANARY[:36] in data or b"root:x:0" in data:
                raise OracleError("read a file outside the folder of the model", written.name)


def one_line(error: RmsDeployError) -> str:
    """The message, in a form to be counted; it must be one line."""
    text = str(error)
    if not text.strip() or "\n" in text or "\r" in text:
        raise OracleError("an error is not one line", f"{type(error).__name__}: {text!r}"[:300])
    return type(error).__name__
