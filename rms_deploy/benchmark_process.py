"""A candidate's process, seen from the benchmark: a crash in it is an answer, not an end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from typing import Any

from rms_deploy.errors import RunError

__all__ = ["BenchmarkProcess"]

# `-c` and not `-m`, which would look for the package, and for numpy, in the working folder first.
_CODE = "import sys; sys.path[:] = {path!r}; from rms_deploy.benchmark_child import main; main()"


class BenchmarkProcess:
    """Starts `rms_deploy.benchmark_child` in a process of its own, which sees the same packages as this one."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - see close
        self._process = subprocess.Popen(
            self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, encoding="utf-8"
        )

    @staticmethod
    def command() -> list[str]:
        """What is run."""
        return [sys.executable, "-c", _CODE.format(path=sys.path)]

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Raises:
            RunError: the answer is an error, or the process died instead of answering.
        """
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018 - both are pipes
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line.endswith("\n"):
            raise RunError(self._death())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RunError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _death(self) -> str:
        code = self._process.wait()
        if code < 0:
            how = f"its process was killed by {signal.Signals(-code).name}"
        else:
            how = f"its process ended with exit code {code}"
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return f"{how}: {lines[-1]}" if lines else how
