"""A call in a process of its own: what never ends is ended, and a crash in a runtime is an error like others."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import tempfile
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from rms_deploy.errors import RmsDeployError, RunError

__all__ = ["call_isolated"]

# `-c` and not `-m`, which would look for packages in the working folder first.
_CODE: Final = "import sys; sys.path[:] = {path!r}; from rms_deploy.verification.isolated import main; main({folder!r})"
_CALL, _RESULT = "call", "result"
_STDERR: Final = 2


def call_isolated(module: str, name: str, *args: Any, timeout: float, **kwargs: Any) -> Any:
    """What a function of a module returns, or raises, in another process.

    The arguments and the result are pickled. What the process prints goes to the standard error of this one.

    Args:
        module: of the function.
        name: of the function.
        args: what it is called with.
        timeout: seconds after which the process is ended.
        kwargs: what it is called with besides.

    Raises:
        RunError: it did not end in time, or the process died.
    """
    with tempfile.TemporaryDirectory(prefix="rms-deploy-") as folder:
        (Path(folder) / _CALL).write_bytes(pickle.dumps((module, name, args, kwargs)))
        code = _CODE.format(path=sys.path, folder=folder)
        try:
            process = subprocess.run([sys.executable, "-c", code], stdout=_STDERR, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise RunError(f"it did not end within {timeout:g} s, and was ended; a longer `timeout` waits") from None
        result = Path(folder) / _RESULT
        if not result.is_file():
            raise RunError(f"it was not finished: its process {_end(process.returncode)}")
        returned, error = pickle.loads(result.read_bytes())
    if error is not None:
        raise error
    return returned


def main(folder: str) -> None:
    """Make the call that lies in `folder`, in the process that was started for it."""
    module, name, args, kwargs = pickle.loads((Path(folder) / _CALL).read_bytes())
    returned: Any = None
    error: Exception | None = None
    try:
        returned = getattr(import_module(module), name)(*args, **kwargs)
    except Exception as raised:
        if not isinstance(raised, RmsDeployError):
            traceback.print_exc()  # which is lost on the way
        error = raised
    part = Path(folder) / f"{_RESULT}.part"
    part.write_bytes(pickle.dumps((returned, error)))
    part.rename(Path(folder) / _RESULT)


def _end(code: int) -> str:
    """How a process ended, by its exit code."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
