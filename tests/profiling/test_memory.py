"""What /proc says of a process, or nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from processes import linux

from gaitedge.profiling.memory import peak, resident

TEXT = "Name:\tpython\nVmPeak:\t  900 kB\nVmHWM:\t     123 kB\nVmRSS:\t      45 kB\n"


def test_lines_of_a_status(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(TEXT)
    assert resident(status) == 45 << 10
    assert peak(status) == 123 << 10


def test_where_the_system_does_not_say(tmp_path: Path) -> None:
    assert resident(tmp_path / "none") is None
    (tmp_path / "status").write_text("VmRSS:\tmany kB\n")
    assert resident(tmp_path / "status") is None
    found = peak(tmp_path / "none")  # by getrusage, where there is one
    assert found is None or found > 1 << 20


@linux
def test_a_peak_stays_when_the_memory_is_given_back() -> None:
    before = resident()
    assert before is not None
    held = np.ones(64 << 20, np.uint8)
    del held
    most = peak()
    assert most is not None
    assert most >= before + (32 << 20)
