"""One trial: the sample of a seed, damaged or not, and what the product makes of it."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx

import rms_deploy
from rms_deploy.errors import RmsDeployError

from .command import command_line
from .content import lost
from .graphs import DATA_FILE, Sample, generate
from .mutations import mutate_bytes
from .oracle import CANARY, Options, Trial, one_line
from .original import OracleError, Original, element_of
from .structure import break_names, mutate_structure

__all__ = ["KINDS", "Outcome", "attempt"]

KINDS = ("valid", "bytes", "structure")
_BASES = 400
"""Samples that are damaged: few enough to be kept, so that a damaged one costs no generation."""


@dataclass(frozen=True)
class Outcome:
    """What came of one trial: a category, or a failure with the place it came from."""

    seed: int
    category: str
    error: str = ""
    frame: str = ""
    detail: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.error)


def attempt(kind: str, seed: int, folder: Path, stage: Callable[[str], None]) -> Outcome:
    """Make the files of this seed in `folder`, an empty one, and try them."""
    stage("generate")
    rng = np.random.default_rng([KINDS.index(kind), seed])
    options = Options.drawn(rng)
    trial = Trial(folder, options, stage)
    try:
        if kind == "valid":
            return Outcome(seed, _valid(trial, generate(seed), rng))
        sample = _damaged(kind, folder, rng)
        return Outcome(seed, _mutated(trial, sample, rng))
    except OracleError as error:
        what, why = error.args
        return Outcome(seed, "failed", what, f"--target {options.target}, {_kind_of(why)}", f"{why} [{options}]"[:600])
    except Exception as error:  # a traceback that a user would see; of the fuzz itself, it is a failure too
        text = " ".join(str(error).split())[:300]
        return Outcome(seed, "failed", type(error).__name__, _frame(error), f"{text} [{options}]")


def _kind_of(message: str) -> str:
    """What a runtime or the checker says, without the names and numbers of this model."""
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from \S+ failed:|Status Message: \S+", "", message)
    text = re.sub(r"Node \(.*?\)|'[^']*'|\([^)]*\)|\S*\d\S*", "_", text)
    return " ".join(text.split())[:90].strip()


def _frame(error: BaseException) -> str:
    """The last place in the product."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{os.sep}rms_deploy{os.sep}" in frame.filename]
    chosen = (ours or frames)[-1]
    return f"{'/'.join(Path(chosen.filename).parts[-2:])}:{chosen.name}"


def _write(sample: Sample, folder: Path, data: bytes | None = None) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(sample.model.SerializeToString() if data is None else data)
    if sample.data:
        (folder / DATA_FILE).write_bytes(sample.data)
    return path


def _valid(trial: Trial, sample: Sample, rng: np.random.Generator) -> str:
    path = _write(sample, trial.folder)
    original = Original(path, sample.feeds, element_of(sample.model))
    trial.stage("original")
    original.examine()
    original.evaluate()
    try:
        result, output = trial.fuse(path)
    except RmsDeployError as error:
        return f"refused: {one_line(error)}"
    options = trial.options
    how = trial.judge(original, output, target=options.target, functions=options.functions)
    if missing := lost(path, output):
        raise OracleError(f"lost: {missing}", "")
    if (
        not (result.norms or result.fused_before or result.near_misses)
        and options.plain
        and output.read_bytes() != path.read_bytes()
    ):
        raise OracleError("a model without norms was changed", "")
    if not sample.data and rng.random() < 0.3:
        _from_proto(trial, sample.model)
    if rng.random() < 0.3:
        _again(trial, output)
    if rng.random() < 0.3:
        _unfused(trial, original, output)
    return f"{'fused' if result.norms else 'nothing fused'}: {how}"


def _from_proto(trial: Trial, model: onnx.ModelProto) -> None:
    """A model in memory stays what it was, and gives what its file gives."""
    before = model.SerializeToString(deterministic=True)
    trial.stage("fuse proto")
    rms_deploy.fuse(model, **trial.options.keywords())
    trial.stage("compare")
    if model.SerializeToString(deterministic=True) != before:
        raise OracleError("the given proto was changed", "")


def _again(trial: Trial, output: Path) -> None:
    """Fusing what was fused changes nothing."""
    before = output.read_bytes()
    trial.stage("fuse again")
    again = trial.folder / "again.onnx"
    rms_deploy.fuse(output, again, **trial.options.keywords())
    trial.stage("compare")
    if again.read_bytes() not in (before, before.replace(b"fused.onnx.data", b"again.onnx.data")):
        raise OracleError("fusing twice gives other bytes", "")


def _unfused(trial: Trial, original: Original, output: Path) -> None:
    plain = trial.folder / "unfused.onnx"
    trial.stage("unfuse")
    rms_deploy.unfuse(output, plain)
    try:
        trial.judge(original, plain, target="decomposed")
    except OracleError as error:
        raise OracleError(f"unfuse of the result: {error.args[0]}", error.args[1]) from error


@lru_cache(_BASES)
def _base(seed: int) -> tuple[Sample, bytes]:
    sample = generate(seed)
    return sample, sample.model.SerializeToString()


def _damaged(kind: str, folder: Path, rng: np.random.Generator) -> tuple[Sample, Path]:
    sample, data = _base(int(rng.integers(_BASES)))
    (folder.parent / "secret.bin").write_bytes(CANARY)
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    if kind == "bytes":
        _, other = _base(int(rng.integers(_BASES)))
        return sample, _write(sample, folder, mutate_bytes(data, other, rng))
    model = onnx.ModelProto()
    model.CopyFrom(sample.model)
    mutate_structure(model, rng)
    data = model.SerializeToString()
    if rng.random() < 0.05:
        data = break_names(data, model, rng)
    return sample, _write(sample, folder, data)


def _mutated(trial: Trial, damaged: tuple[Sample, Path], rng: np.random.Generator) -> str:
    sample, path = damaged
    for command in (rms_deploy.inspect, rms_deploy.unfuse):
        trial.stage(command.__name__)
        try:
            command(path)
        except RmsDeployError as error:
            one_line(error)
    if rng.random() < 0.001:  # it starts a process
        command_line(trial, "verify", str(path), str(path))
    if rng.random() < 0.02:
        command_line(trial, "doctor", str(path))
    original = Original(path, sample.feeds, element_of(sample.model))
    try:
        result, output = trial.fuse(path)
    except RmsDeployError as error:
        refused = f"refused: {one_line(error)}"
        trial.stage("original")
        original.examine()
        return f"{refused}, though ONNX Runtime runs it" if original.by == "onnxruntime" else refused
    trial.has_no_secret()
    trial.stage("original")
    original.examine()
    if not any(original.loads.values()):
        return "written; the original does not load either"
    how = trial.judge(original, output, target=trial.options.target, functions=trial.options.functions)
    return f"{'fused' if result.norms else 'nothing fused'}: {how}"
