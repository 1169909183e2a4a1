from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from gaitedge.machine.memory import keep_freed_memory, return_freed_memory


def page_faults(keep: bool) -> int:
    """Pages that the kernel must hand out when a block is freed and taken again, in a process of its own."""
    code = f"""
    import resource
    import numpy as np
    from gaitedge.machine.memory import keep_freed_memory
    if {keep}:
        assert keep_freed_memory()
    def use():
        np.empty(64 << 20, np.uint8).fill(1)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    before = use()
    print(use() - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc is Linux'")
def test_a_block_that_was_freed_is_used_again() -> None:
    lost, kept = page_faults(keep=False), page_faults(keep=True)
    assert kept < 10
    assert lost > 20  # or there would be nothing to gain


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc is Linux'")
def test_what_was_kept_is_given_back() -> None:
    code = """
    import numpy as np
    from pathlib import Path
    from gaitedge.machine.memory import keep_freed_memory, return_freed_memory
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    keep_freed_memory()
    before = resident()
    np.empty(64 << 20, np.uint8).fill(1)
    kept = resident() - before
    return_freed_memory()
    print(kept >> 20, (resident() - before) >> 20)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    kept, left = map(int, done.stdout.split())
    assert kept >= 64
    assert left < 32


def test_nothing_happens_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
    return_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert not keep_freed_memory()
    return_freed_memory()
