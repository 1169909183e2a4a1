"""What a Jetson takes, by NVIDIA's tegrastats: for boards whose monitors the kernel does not show.

A line has, among much else, `VDD_IN 4970mW/4970mW`: now, and the mean since it was started.
Source: NVIDIA's Jetson Linux Developer Guide, "tegrastats Utility".
"""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Sequence

from gaitedge.errors import MachineError
from gaitedge.machine.ina import whole

__all__ = ["COMMAND", "Tegrastats", "parse_power"]

COMMAND = ("tegrastats", "--interval", "100")  # milliseconds

_FIRST_S = 5.0  # until the first line must be there
_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]*) (-?\d+)mW")


def parse_power(line: str) -> dict[str, float]:
    """Watts of each rail that a line of tegrastats names."""
    return {name: int(milliwatts) / 1e3 for name, milliwatts in _RAIL.findall(line)}


class Tegrastats:
    """A tegrastats that runs until it is closed, and what its last line said.

    Raises MachineError where it cannot be started, or says nothing of power.
    """

    def __init__(self, command: Sequence[str] = COMMAND, first_s: float = _FIRST_S) -> None:
        try:
            self._process = subprocess.Popen(  # noqa: S603  (a command of this package, no user's text)
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise MachineError(f"{command[0]} could not be started: {error.strerror}") from None
        self._rails: dict[str, float] = {}
        self._ended = False
        self._news = threading.Event()  # a first line with rails, or the end
        self._reader = threading.Thread(target=self._read, name="tegrastats", daemon=True)
        self._reader.start()
        try:
            self._news.wait(first_s)
            if not self._rails:
                what = "ended" if self._ended else f"said nothing within {first_s:g} s"
                raise MachineError(f"{command[0]} {what}, and nothing of power")
            self.rails = whole(self._rails)
        except BaseException:
            self.close()
            raise

    def watts(self) -> float:
        """Of the whole module, by the last line. Raises MachineError where tegrastats has ended."""
        rails = self._rails
        if self._ended:
            raise MachineError("tegrastats ended")
        return sum(rails[name] for name in self.rails)

    def close(self) -> None:
        """End it, listening or not. Where this process is killed, its pipe breaks at the next line."""
        self._process.terminate()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            rails = parse_power(line)
            if rails:
                self._rails = {**self._rails, **rails}
                self._news.set()
        self._ended = True
        self._news.set()
