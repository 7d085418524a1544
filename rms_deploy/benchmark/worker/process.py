"""The process of a candidate, as the benchmark sees it. When it crashes or hangs, that is an error of one line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from threading import Timer
from typing import Any

from rms_deploy.errors import RunError

__all__ = ["BenchmarkProcess"]

# `-c` and not `-m`, which would look for the package, and for numpy, in the working folder first.
_CODE = "import sys; sys.path[:] = {path!r}; from {module} import main; main()"


class BenchmarkProcess:
    """Runs `main` of a module in a process of its own, which sees the same packages as this one."""

    def __init__(self, timeout: float | None = None, *, module: str = "rms_deploy.benchmark.worker.main") -> None:
        """Start the process.

        Args:
            timeout: seconds without an answer after which the process counts as hung, and is killed; None: never.
            module: whose `main` is run.
        """
        self._timeout = timeout
        self._hung = False
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - see close
        self._process = subprocess.Popen(
            self.command(module),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
        )

    @staticmethod
    def command(module: str) -> list[str]:
        """The command line of the process."""
        return [sys.executable, "-c", _CODE.format(path=sys.path, module=module)]

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send one request and wait for its answer, at most for its `seconds` and the timeout together.

        Raises:
            RunError: the answer is an error, or the process died or hung instead of answering.
        """
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018 - both are pipes
        watch = Timer((self._timeout or 0) + request.get("seconds", 0), self._kill_hung)
        if self._timeout is not None:
            watch.daemon = True
            watch.start()
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            watch.cancel()
        if not line.endswith("\n"):
            raise RunError(self._death())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RunError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process, whatever it is doing. May be called twice."""
        if self._errors.closed:
            return
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _kill_hung(self) -> None:
        self._hung = True
        self._process.kill()

    def _death(self) -> str:
        if self._hung:
            return f"it gave no answer within {self._timeout:g} s, and was ended; a longer `timeout` waits longer"
        code = self._process.wait()
        if code < 0:
            how = f"its process was killed by {signal.Signals(-code).name}"
        else:
            how = f"its process ended with exit code {code}"
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return f"{how}: {lines[-1]}" if lines else how
