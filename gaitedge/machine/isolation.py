"""Runs what may crash or hang, a driver or a vendor's library, in a process of its own."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Outcome", "run_apart"]


@dataclass(frozen=True)
class Outcome:
    """How a process ended."""

    output: str
    """Its standard output; empty where it did not end well."""
    problem: str | None
    """None where it exited with 0; else what became of it, such as "crashed (SIGSEGV)"."""


def run_apart(command: Sequence[str], timeout: float) -> Outcome:
    """Run a command for at most `timeout` seconds. Never raises for what the command does."""
    try:
        with _without_core_files():
            process = subprocess.Popen(  # noqa: S603  (commands of this package, no user's text)
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
    except OSError as error:
        return Outcome("", f"could not be started: {error}")
    with contextlib.ExitStack() as streams:
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                streams.enter_context(stream)
        try:
            output, complaint = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            # A process stuck inside a driver cannot be killed: it is left behind, not waited for.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=2)
            return Outcome("", f"gave no answer within {timeout:g} s")
        except BaseException:
            process.kill()
            raise
    code = process.returncode
    if code == 0:
        return Outcome(output, None)
    if code < 0:
        with contextlib.suppress(ValueError):
            return Outcome("", f"crashed ({signal.Signals(-code).name})")
        return Outcome("", f"crashed (signal {-code})")
    last = (complaint.strip().splitlines() or ["nothing"])[-1].strip()
    return Outcome("", f"failed with exit status {code} and said: {last}")


@contextlib.contextmanager
def _without_core_files() -> Iterator[None]:
    """What is started here leaves no core file in the user's folder when it crashes."""
    try:
        import resource
    except ImportError:  # not on Windows
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
