"""Candidates of gaitedge.profiling.turns: here, where a process that is started anew finds them too."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from gaitedge.profiling.repeat import Settings, Wanted, repeat


def counting(first: int) -> Generator[int, None, None]:
    while True:
        yield first
        first += 1


def pid() -> Generator[int, None, None]:
    while True:
        yield os.getpid()


def raising(error: BaseException, turns: int) -> Generator[int, None, None]:
    yield from range(turns)
    raise error


def dying(how: int, turns: int) -> Generator[int, None, None]:
    yield from range(turns)
    os.kill(os.getpid(), how)
    time.sleep(60)
    yield -1


def leaving(status: int) -> Generator[int, None, None]:
    os._exit(status)
    yield -1


def with_little_memory(bundle: Path, row: Wanted, settings: Settings) -> Generator[Any, None, None]:
    """A repeat whose memory ends once its engine is loaded."""
    import resource

    turns = repeat(bundle, row, settings, 0)
    yield next(turns)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (256 << 20), -1))
    yield next(turns)
