"""A build that reports, and one that is told to end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from networks import random_weights
from tensorrt_fake import VERSIONS, Recorded

from gaitedge.config import GaitPartConfig
from gaitedge.export.graph import Plan, build_graph
from gaitedge.export.tensorrt import BuildOptions, build

SMALL = GaitPartConfig(channels=(4, 8, 12), parts=4, embedding_dim=8)
GRAPH = build_graph(SMALL, random_weights(SMALL, 0), Plan(precision="fp16")).SerializeToString()
NEWER = VERSIONS[1:]


@pytest.mark.parametrize("version", NEWER)
def test_progress_is_told_in_the_callers_thread(install: Callable[..., Recorded], version: str) -> None:
    recorded = install(version)
    recorded.phases = (("Building Engine", 1), ("Tactic Timing", 3))
    seen: list[tuple[str, int, int]] = []
    threads = set()

    def progress(*step: Any) -> None:
        seen.append(step)
        threads.add(threading.current_thread())

    build(GRAPH, "fp16", BuildOptions(), progress)
    assert [step for step in seen if step[0] == "Tactic Timing"] == [
        ("Tactic Timing", done, 3) for done in (0, 1, 2, 3, 3)
    ]
    assert threads == {threading.current_thread()}


def test_8_builds_without_progress(install: Callable[..., Recorded]) -> None:
    install("8.6.1")
    seen: list[object] = []
    build(GRAPH, "fp16", BuildOptions(), lambda *step: seen.append(step))
    assert seen == []


def interrupt(recorded: Recorded) -> None:
    """Press Ctrl-C at the second of fifty steps, each of which takes its time."""
    recorded.phases = (("Tactic Timing", 50),)
    pressed = threading.Event()

    def at_step(_: str, step: int) -> None:
        pressed.wait(0.02)
        if step == 1:
            signal.raise_signal(signal.SIGINT)

    recorded.at_step = at_step


@pytest.mark.parametrize("version", NEWER)
def test_ctrl_c_ends_the_build_at_its_next_step(
    install: Callable[..., Recorded], version: str, tmp_path: Path
) -> None:
    recorded = install(version)
    interrupt(recorded)
    with pytest.raises(KeyboardInterrupt):
        build(GRAPH, "fp16")
    assert recorded.stopped_at is not None
    assert 1 <= recorded.stopped_at[1] < 49
    assert "Runtime" not in recorded.calls
    assert list((tmp_path / "caches").rglob("*.cache"))  # the next build is the faster for it
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tensorrt")]


def test_8_cannot_be_ended_and_says_so(install: Callable[..., Recorded], tmp_path: Path) -> None:
    recorded = install("8.6.1")
    interrupt(recorded)
    seen: list[tuple[str, int, int]] = []
    with pytest.raises(KeyboardInterrupt):
        build(GRAPH, "fp16", BuildOptions(), lambda *step: seen.append(step))
    assert seen == [("TensorRT 8.6.1 cannot be stopped: waiting for it", 0, 0)]
    assert "Runtime" not in recorded.calls
    assert list((tmp_path / "caches").rglob("*.cache"))  # the next build is the faster for it


@pytest.mark.parametrize("version", NEWER)
def test_an_error_of_progress_ends_the_build_too(install: Callable[..., Recorded], version: str) -> None:
    recorded = install(version)
    recorded.phases = (("Tactic Timing", 10_000),)
    recorded.at_step = lambda *_: threading.Event().wait(0.001) and None

    def progress(*_: object) -> None:
        raise BrokenPipeError("nobody reads")

    with pytest.raises(BrokenPipeError):
        build(GRAPH, "fp16", BuildOptions(), progress)
    assert recorded.stopped_at is not None
