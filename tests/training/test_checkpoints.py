from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from gaitedge.errors import InputError
from gaitedge.training.checkpoints import newest, read_checkpoint, write_checkpoint


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(3))])
    optimizer.param_groups[0]["params"][0].grad = torch.tensor([1.0, 2.0, 3.0])
    optimizer.step()
    path = write_checkpoint(tmp_path / "new", 7, {"optimizer": optimizer.state_dict()}, keep=1)
    state = read_checkpoint(path)
    assert state["iteration"] == 7
    moments = state["optimizer"]["state"][0]
    assert torch.equal(moments["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])


def test_the_oldest_go_and_so_does_what_a_kill_left(tmp_path: Path) -> None:
    (tmp_path / ".00000030.pt.0123456789abcdef.part").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    for iteration in (10, 20, 30, 100_000_00):
        write_checkpoint(tmp_path, iteration, {}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000030.pt", "10000000.pt", "notes.txt"]
    last = newest(tmp_path)
    assert last is not None
    assert last.name == "10000000.pt"


def test_a_run_without_checkpoints_has_no_newest(tmp_path: Path) -> None:
    assert newest(tmp_path) is None
    assert newest(tmp_path / "nothing") is None


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "pickle", "evil", "other", "bits"])
def test_a_damaged_checkpoint_is_refused_and_runs_nothing(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_checkpoint(tmp_path, 1, {"model": {"fc": torch.arange(4000.0)}}, keep=1)
    data = path.read_bytes()
    path.write_bytes(
        {
            "cut": data[: len(data) // 2],
            "empty": b"",
            "text": b"not a checkpoint\n",
            "pickle": pickle.dumps({"format": 2}),
            "evil": pickle.dumps({"format": 1, "model": Evil()}),
            "other": data,
            "bits": data[:100] + b"\xff" * 300 + data[400:],
        }[damage]
    )
    if damage in ("other", "evil"):
        torch.save({"format": 99} if damage == "other" else {"format": 1, "model": Evil()}, path)
    with pytest.raises(InputError, match=r"the checkpoint .*00000001.pt is damaged, or of another version"):
        read_checkpoint(path)
    assert not (tmp_path / "executed").exists()
