"""What must hold of a file that the product was given, valid or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

import rms_deploy
from rms_deploy.errors import RmsDeployError

from .evaluator import Arrays, evaluate
from .running import differs, load, run

__all__ = ["CANARY", "Options", "OracleError", "Original", "Trial"]

TARGETS = ("fused", "fused", "fused", "standard", "onnxruntime", "tensorrt-plugin", "decomposed")
CANARY = b"of-no-model-0f5d2c" * 200
"""Content of a file that lies outside the folder of the model: it must never be in an output."""


class OracleError(AssertionError):
    """The product did what it must not; the first argument is the kind, the second says more."""


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
class Original:
    """The model as it was given, and what it computes."""

    path: Path
    feeds: dict[str, NDArray[Any]]
    element: np.dtype[Any]
    loads: dict[bool, bool] = field(default_factory=dict)
    """Whether ONNX Runtime loads it: with our library, and without."""
    valid: bool = False
    """Whether onnx's checker passes it."""
    expected: Arrays | None = None
    by: str = ""

    def examine(self) -> None:
        """Load and run it; any refusal is the file's own matter."""
        library = rms_deploy.onnxruntime_library()
        self.valid = _checks(self.path)
        for with_library in (False, True):
            try:
                session = load(self.path, library=library if with_library else None, optimize=False)
                self.loads[with_library] = True
            except Exception:
                self.loads[with_library] = False
                continue
            try:
                result = run(session, self.feeds)
            except Exception:
                continue
            if self.expected is None:
                self.expected, self.by = result, "onnxruntime"
            elif why := differs(result, self.expected, original=self.path, feeds=self.feeds, element=self.element):
                raise OracleError("kernel and body differ", why)

    def evaluate(self) -> None:
        """By onnx's evaluator, where ONNX Runtime did not run it."""
        if self.expected is None:
            try:
                self.expected, self.by = evaluate(self.path, self.feeds), "evaluator"
            except Exception:
                self.expected = None


def _checks(path: Path) -> bool:
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception:
        return False
    return True


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
        foreign = target == "onnxruntime" and b"SimplifiedLayerNormalization" in output.read_bytes()
        if original.valid and not foreign and not _checks(output):  # onnx does not know ONNX Runtime's own op
            raise OracleError("fails onnx.checker", _why_not(output))
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
            if not _loads(original.path, library, optimize=True):
                return "loaded"
            only = ", only unoptimised" if _loads(output, library, optimize=False) else ""
            raise OracleError(f"does not load {name}{only}", " ".join(str(error).split())) from error
        if original.expected is None or original.by != "onnxruntime":
            return "loaded"
        try:
            actual = run(session, original.feeds)
        except Exception as error:
            if _optimiser_differs(original, library):
                return "ONNX Runtime's optimiser differs by itself"
            raise OracleError(f"does not run {name}", " ".join(str(error).split())) from error
        try:
            self._compare(original, actual, name)
        except OracleError:
            if not _optimiser_differs(original, library):
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


def _why_not(path: Path) -> str:
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:
        return " ".join(str(error).split())
    return ""


def _loads(path: Path, library: Path | None, *, optimize: bool) -> bool:
    try:
        load(path, library=library, optimize=optimize)
    except Exception:
        return False
    return True


def _optimiser_differs(original: Original, library: Path | None) -> bool:
    assert original.expected is not None
    try:
        actual = run(load(original.path, library=library, optimize=True), original.feeds)
    except Exception:
        return True
    return bool(
        differs(actual, original.expected, original=original.path, feeds=original.feeds, element=original.element)
    )


def element_of(model: onnx.ModelProto) -> np.dtype[Any]:
    """The narrowest float type of its inputs."""
    kinds = [value.type.tensor_type.elem_type for value in model.graph.input]
    floats = [helper.tensor_dtype_to_np_dtype(kind) for kind in kinds if kind in (1, 10, 11, 16)]
    return min(floats, key=lambda dtype: (dtype.itemsize, dtype.kind), default=np.dtype(np.float32))


def one_line(error: RmsDeployError) -> str:
    """The message, in a form to be counted; it must be one line."""
    text = str(error)
    if not text.strip() or "\n" in text or "\r" in text:
        raise OracleError("an error is not one line", f"{type(error).__name__}: {text!r}"[:300])
    return type(error).__name__
