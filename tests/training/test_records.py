from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gaitedge.training.records import Records, read_log


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run."""
    events: Any = EventAccumulator(str(run))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def test_the_log_and_the_events_say_the_same(tmp_path: Path) -> None:
    lines = [
        {"iteration": 20, "loss": 0.5, "nonzero": 1},
        {"iteration": 40, "loss": 0.25, "nonzero": 0.5},
        {"iteration": 40, "rank1": {"NM": 0.75, "CL": 0.5}},
        {"iteration": 41, "stopped": "the loss is nan"},
    ]
    with Records(tmp_path) as records:
        for line in lines:
            records.add(line)
    assert read_log(tmp_path) == lines
    assert curves(tmp_path) == {
        "train/loss": [(20, 0.5), (40, 0.25)],
        "train/nonzero": [(20, 1.0), (40, 0.5)],
        "rank1/NM": [(40, 0.75)],
        "rank1/CL": [(40, 0.5)],
    }


def test_what_came_after_the_last_checkpoint_is_taken_back(tmp_path: Path) -> None:
    with Records(tmp_path) as records:
        for iteration in (10, 20, 30):
            records.add({"iteration": iteration, "loss": 1.0})
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"iteration": 40, "lo')  # killed here
    with Records(tmp_path, after=20) as records:
        assert [line["iteration"] for line in records.kept] == [10, 20]
        records.add({"iteration": 30, "loss": 2.0})
    assert [(line["iteration"], line["loss"]) for line in read_log(tmp_path)] == [(10, 1), (20, 1), (30, 2)]
    assert curves(tmp_path) == {"train/loss": [(10, 1.0), (20, 1.0), (30, 2.0)]}


def test_every_line_is_on_the_disk_at_once(tmp_path: Path) -> None:
    with Records(tmp_path) as records:
        records.add({"iteration": 1, "loss": 1.0})
        assert read_log(tmp_path) == [{"iteration": 1, "loss": 1.0}]


def test_points_before_a_checkpoint_outlive_a_kill(tmp_path: Path) -> None:
    code = """
    import os, signal, sys
    from pathlib import Path
    from gaitedge.training.records import Records
    records = Records(Path(sys.argv[1]))
    for iteration in (10, 20, 30):
        records.add({"iteration": iteration, "loss": 1.0})
    os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=False)
    assert curves(tmp_path) == {"train/loss": [(10, 1.0), (20, 1.0), (30, 1.0)]}
    with Records(tmp_path, after=20) as records:
        records.add({"iteration": 30, "loss": 2.0})
    assert curves(tmp_path) == {"train/loss": [(10, 1.0), (20, 1.0), (30, 2.0)]}


def test_a_start_from_nothing_takes_everything_back(tmp_path: Path) -> None:
    """Killed before its first checkpoint, a training begins anew in the same folder."""
    for loss in (1.0, 2.0):
        with Records(tmp_path) as records:
            records.add({"iteration": 10, "loss": loss})
    assert curves(tmp_path) == {"train/loss": [(10, 2.0)]}
