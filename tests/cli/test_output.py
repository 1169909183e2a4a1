"""Standard output and standard error that nobody takes, that are full or closed, or are a terminal."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
from pathlib import Path

import pytest
from commands import COMMAND, check_refusal, in_process
from processes import ENVIRONMENT, finish, linux, read_terminal, start

from gaitedge.cli.console import table

pytestmark = linux


@pytest.mark.parametrize(
    "arguments",
    [
        ["doctor"],
        ["doctor", "--json"],
        ["inspect", "BUNDLE"],
        ["inspect", "BUNDLE", "--json"],
        ["gallery", "stats", "PEOPLE", "--json"],
        ["--help"],
        ["gallery", "--help"],
    ],
    ids=" ".join,
)
def test_output_that_nobody_takes(arguments: list[str], bundle: Path, people: Path) -> None:
    command = [{"BUNDLE": str(bundle), "PEOPLE": str(people)}.get(part, part) for part in arguments]
    ours, theirs = os.pipe()
    os.close(ours)  # as `| head -0` does
    left = finish(start(*command, stdout=theirs))
    os.close(theirs)
    assert (left.status, left.stderr) == (1, "")
    with Path("/dev/full").open("w") as full:
        check_refusal(finish(start(*command, stdout=full)), "No space left on device")
    closed = finish(start(*command, preexec_fn=lambda: os.close(1)))
    assert (closed.status, closed.stderr) == (0, "")


def test_a_name_in_brackets_is_a_name(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "[").mkdir()
    for name in ("[red]x.gait", "[/b].gait"):  # markup, to a library that prints
        path = Path(shutil.copy(bundle, tmp_path / name))
        done = in_process("inspect", path)
        assert (done.status, done.stderr) == (0, "")
        assert name in done.stdout


def test_an_error_that_nobody_reads(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    for options in ({"stderr": theirs}, {"preexec_fn": lambda: os.close(2)}):
        done = finish(start("inspect", tmp_path / "none.gait", **options))
        assert (done.status, done.stdout) == (1, "")
    os.close(theirs)


def test_progress_goes_to_the_terminal_and_json_to_stdout(weights: Path, many_prepared: Path) -> None:
    ours, theirs = pty.openpty()
    process = start("eval", weights, many_prepared, "--json", stderr=theirs)
    os.close(theirs)
    shown = read_terminal(ours)
    done = finish(process)
    assert done.status == 0
    names = {"protocol", "views", "subjects", "gallery", "probes", "probe_sets", "engine", "paper"}
    assert set(done.json) == names
    assert "embedding" in shown


def test_a_name_that_no_encoding_has(tmp_path: Path) -> None:
    """A file name is bytes; these are not text."""
    path = os.path.join(os.fsencode(tmp_path), b"w\xff")  # noqa: PTH118
    few = ["--subjects", "1", "--views", "090", "--conditions", "nm-01"]
    command = [*COMMAND, "synth", path, *few]
    for more in ([], ["--json"]):
        done = subprocess.run([*command, *more], capture_output=True, check=False, env=ENVIRONMENT)
        assert (done.returncode, done.stderr) == (0, b"")


def test_a_narrow_terminal_breaks_no_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal
    monkeypatch.setenv("COLUMNS", "40")
    angles = [f"{angle}°" for angle in range(0, 181, 18)]
    table("Rank-1", ["probe", "", *angles], [["NM", "a model of ours", *(f"{90 + n}.5" for n in range(11))]])
    shown = capsys.readouterr().out
    assert all(f"{90 + number}.5" in shown for number in range(11))
    assert all(angle in shown for angle in angles)
