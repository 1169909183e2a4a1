"""Wrong usage ends with 2 and how to do it; with --json, standard output is one document or nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commands import check_refusal, contents, in_process, succeed


@pytest.mark.parametrize(
    "arguments",
    [
        ["dance"],
        ["enroll"],
        ["inspect"],
        ["inspect", "--colour", "x.gait"],
        ["export", "x", "y", "--target", "phone"],
        ["prepare", "x", "y", "--layout", "grew"],
        ["synth", "x", "--subjects", "none"],
        ["synth", "x", "--workers", "0"],
        ["identify", "x.gait", "y.db", "z", "--top", "0"],
        ["gallery", "dance"],
        ["gallery", "remove", "x.db"],
    ],
)
def test_wrong_usage(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = in_process(*arguments)
    assert (done.status, done.stdout) == (2, "")
    assert "Usage: " in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", [["--batch", "many"], ["--frames", "30;60"]])
def test_a_list_that_is_none_is_wrong_usage(option: list[str], bundle: Path) -> None:
    done = in_process("bench", bundle, *option)
    assert (done.status, done.stdout) == (2, "")
    assert option[1] in done.stderr


def test_json_is_all_that_stands_on_stdout(
    weights: Path, bundle: Path, people: Path, store: Path, raw: Path, tmp_path: Path
) -> None:
    few = ["--subjects", 1, "--views", "090", "--conditions", "nm-01"]
    shutil.copytree(store, tmp_path / "store")
    for command in (
        ["synth", tmp_path / "walkers", *few],
        ["synth", tmp_path / "drawn", *few, "--store"],
        ["prepare", raw, tmp_path / "prepared"],
        ["export", weights, tmp_path / "new.gait"],
        ["inspect", bundle],
        ["enroll", bundle, people, f"{store}:*/nm-05"],
        ["enroll", bundle, tmp_path / "new.db", store, "--set-threshold"],
        ["identify", bundle, people, f"{store}:001/nm-01/090"],
        ["identify", bundle, people, store],
        ["bench", bundle, "--seconds", "0.01", "--repeats", "2"],
        ["eval", bundle, store],
        ["eval", weights, store],
        ["doctor"],
        ["gallery", "list", people],
        ["gallery", "stats", people],
        ["gallery", "remove", people, "002"],
    ):
        assert succeed(*command, "--json").json
    assert not [name for name in contents(tmp_path) if name.endswith((".part", "-journal"))]


def test_json_of_a_failure_is_nothing(bundle: Path, people: Path, tmp_path: Path) -> None:
    check_refusal(in_process("identify", bundle, people, tmp_path / "none", "--json"), "nothing at")
