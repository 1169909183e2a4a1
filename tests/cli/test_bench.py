"""`gaitedge bench`: from a number on the terminal to a page, and back to whether a change is real."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import os
from pathlib import Path

import cv2
import pytest
from bundles import bundle_of
from commands import check_refusal, contents, in_process, succeed
from processes import finish, linux, start, until
from profiles import make_document, make_row
from scenes import HEIGHT, RATE, WIDTH, Person, Scene

from gaitedge.bundle import Bundle
from gaitedge.profiling.document import Document, Row
from gaitedge.profiling.schema import read_document, write_document
from gaitedge.profiling.unfinished import unfinished

QUICK = ["--seconds", 0.05, "--repeats", 2, "--warmup", 0, "--threads", 1, "--no-energy"]


def test_a_number_for_whoever_asks_for_one(bundle: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)
    text = succeed("bench", bundle, "--seconds", 0.05, "--repeats", 2, "--threads", 1).stdout
    for said in ("OpenVINO", "1 thread", "end to end", "compute", "sequences a second", "first run, ms"):
        assert said in text
    assert "energy not measured: " in text or "J/sequence" in text
    assert contents(tmp_path) == before


def test_a_sweep_leaves_its_files_and_says_what_is_best(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["-m", "bench", "small one.gait"])  # as the shell gave them
    out, page, table = tmp_path / "sweep.json", tmp_path / "sweep.html", tmp_path / "sweep.csv"
    axes = ["--batch", "1,2", "--frames", "3", "--plan", "naive,plugin", "--latency-bound", "100s"]
    done = succeed("bench", bundle, *axes, *QUICK, "--out", out, "--html", page, "--csv", table)
    assert "most frames a second with a p99 within 100000 ms: " in done.stdout
    assert "not measured: 1 × 3 frames" in done.stdout
    document = read_document(out)
    assert len(document.rows) == 4
    assert [row.configuration.plan for row in document.rows if row.failed] == ["plugin"] * 2
    assert document.best is not None
    assert document.best.within_bound == document.best.throughput
    assert document.command == "gaitedge bench 'small one.gait'"
    with table.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 4
    assert 'id="heat"' in page.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sweep.csv", "sweep.html", "sweep.json"]


def test_layers_and_pytorch_in_turns(bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    out, once = tmp_path / "deep.json", [*QUICK, "--repeats", 1]  # PyTorch is slow to start
    done = succeed("bench", bundle, *once, "--frames", 5, "--layers", "--against", "pytorch", "--out", out)
    document = read_document(out)
    assert document.layers is not None
    assert {"FConv1", "HP", "TP", "FC"} <= {block.name for block in document.layers.blocks}
    assert document.against is not None
    assert document.against.largest_difference < 1e-5
    assert document.against.verdict in done.stdout
    assert "by OpenVINO's performance counters" in done.stdout


def test_where_a_frames_time_goes_in_watch(bundle: Path, tmp_path: Path) -> None:
    film, out, trace = tmp_path / "walk.avi", tmp_path / "stages.json", tmp_path / "trace.json"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), RATE, (WIDTH, HEIGHT))
    for image in Scene((Person(80, 560, last=57),), frames=60).images():
        writer.write(image)
    writer.release()
    done = succeed("bench", bundle, *QUICK, "--video", film, "--trace", trace, "--out", out)
    assert "Where a frame's time goes in watch" in done.stdout
    document = read_document(out)
    assert document.stages is not None
    assert document.stages.frames == 60
    assert {"decode", "segment", "track", "align", "embed", "match"} == {
        stage.name for stage in document.stages.stages
    }
    assert json.loads(trace.read_text())["traceEvents"]


@linux
def test_an_interrupted_sweep_goes_on(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep.json"
    command = ["bench", bundle, "--batch", "1,2,3", "--frames", 3, *QUICK, "--out", out]
    process = start(*command)
    until(lambda: unfinished(out).exists() and len(unfinished(out).read_bytes().splitlines()) > 2, process)
    process.kill()
    finish(process)
    assert not out.exists()
    left = unfinished(out).read_bytes().splitlines()
    first = json.loads(left[1].partition(b" ")[2])
    succeed(*command)
    document = read_document(out)
    assert [row.failed for row in document.rows] == [None] * 3
    (warning,) = document.warnings
    assert "of an earlier run that was interrupted" in warning
    kept = document.rows[0].samples_ms[0]  # measured before the kill, and not once more
    measured = first["repeat"]["measurement"]["end_to_end_ms"]
    assert kept == pytest.approx(measured[:: -(-len(measured) // 1000)], rel=1e-3)
    assert not unfinished(out).exists()


def profile_of(path: Path, typical: float, precision: str = "fp32") -> Path:
    """A file of one row that took so many ms."""
    row = make_row(typical=typical, precision=precision, seed=int(typical * 10))
    write_document(Document("now", "gaitedge bench", path.stem, "ab", {}, {}, [row]), path)
    return path


def test_the_same_twice_cannot_be_told_apart(tmp_path: Path) -> None:
    first, second = profile_of(tmp_path / "a.json", 15.0), profile_of(tmp_path / "b.json", 15.0)
    done = succeed("bench", "--compare", first, second, "--fail-if-slower", "5%")
    assert "not distinguishable" in done.stdout


def test_what_is_faster_is_said_with_an_interval(tmp_path: Path) -> None:
    first, second = profile_of(tmp_path / "a.json", 15.0), profile_of(tmp_path / "b.json", 6.0, "int8")
    done = succeed("bench", "--compare", first, second, "--html", tmp_path / "page.html")
    assert "fp32" in done.stdout
    assert "2.5" in done.stdout
    assert "faster" in done.stdout
    assert 'id="comparison"' in (tmp_path / "page.html").read_text()
    (pair,) = succeed("bench", "--compare", first, second, "--json").json["pairs"]
    assert pair["verdict"] == "faster"
    assert 2.3 < pair["end_to_end"]["low"] < pair["end_to_end"]["ratio"] < pair["end_to_end"]["high"] < 2.7


def test_a_build_fails_where_it_became_slower(tmp_path: Path) -> None:
    first, second = profile_of(tmp_path / "a.json", 6.0), profile_of(tmp_path / "b.json", 6.6)
    compared = ["bench", "--compare", first, second, "--fail-if-slower"]
    done = in_process(*compared, "5%")
    assert done.status == 1
    assert "slower" in done.stdout
    assert done.stderr.count("\n") == 1
    assert "is slower than" in done.stderr
    assert "by more than 5% in 1 of 1 configurations" in done.stderr
    succeed(*compared, "50%")


def test_a_build_fails_where_a_configuration_runs_no_more(tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    rows = [make_row(), make_row(2)]
    bare = dataclasses.replace(make_document(), best=None, against=None, layers=None)
    write_document(dataclasses.replace(bare, rows=rows), first)
    rows[1] = Row(rows[1].configuration, failed="its process crashed (SIGSEGV)")
    write_document(dataclasses.replace(bare, rows=rows), second)
    done = in_process("bench", "--compare", first, second, "--fail-if-slower", "5%")
    assert done.status == 1
    assert "b.json: its process crashed (SIGSEGV)" in done.stderr
    assert succeed("bench", "--compare", second, first, "--fail-if-slower", "5%")


def test_what_fails_beside_the_rows_loses_nothing_that_was_measured(bundle: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "kept.json", tmp_path / "kept.html"
    film = ["--video", "rtsp://127.0.0.1:1/gone"]  # a camera is not opened twice, to look first
    done = in_process("bench", bundle, *QUICK, "--frames", 3, *film, "--out", out, "--html", page)
    assert done.status == 1
    assert "127.0.0.1:1/gone" in done.stderr
    assert done.stderr.count("\n") == 1
    document = read_document(out)
    assert document.rows[0].figures is not None
    (warning,) = document.warnings
    assert warning.startswith(f"no stages of {film[1]}: ")
    assert "end to end" in done.stdout
    assert page.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--seconds", "0"], "seconds to measure a row for must be above 0, not 0"),
        (["--seconds", "nan"], "must be above 0"),
        (["--warmup", "-1"], "seconds to warm up must be 0 or more"),
        (["--repeats", "0"], "a row needs 1 repeat or more"),
        (["--engine", "warp"], "unknown engine 'warp'"),
        (["--precision", "fp32,fp7"], "unknown precision 'fp7'"),
        (["--plan", "clever"], "clever"),
        (["--batch", "1,0"], "batches must be one or more numbers from 1 up"),
        (["--streams", "0"], "streams must be one or more numbers from 1 up"),
        (["--load-inputs", "nowhere"], "nowhere"),
        (["--seconds", "1e300"], "seconds may be 1,000,000 at most, not 1e+300"),
        (["--warmup", "inf"], "seconds to warm up must be 0 or more, not inf"),
        (["--repeats", "99999999999"], "a row has 1000 repeats at most, not 99999999999"),
        (["--streams", "1,4000"], "streams may be 1024 at most, not 4000"),
        (["--threads", "100000"], "threads may be 1024 at most, not 100000"),
        (["--against", "torch"], "a row is compared with pytorch or with another bundle"),
        (["--against", "none.gait"], "no bundle at none.gait"),
        (["--against", "pytorch", "--streams", "2,3"], "have 1 among --streams"),
        (["--video", "none.mp4"], "no file none.mp4"),
        (["--video", "none.mp4", "--gallery", "people.db"], "no gallery at people.db"),
        (["--video", "0", "--out", "a.json", "--trace", "./a.json"], "--out and --trace both name a.json"),
        (["--trace", "trace.json"], "--trace is of a watch: name its source with --video"),
        (["--gallery", "people.db"], "--gallery is of a watch"),
        (["--fail-if-slower", "5%"], "needs two profiles"),
        (["--out", "none/profile.json"], "there is no folder none"),
        (["--out", "profile.txt"], "profile.txt is not named as a .json file"),
        (["--html", "page.json"], "page.json is not named as a .html file"),
        (["--against", "abacus"], "compared with pytorch or with another bundle"),
        (["--csv", "rows.html"], "rows.html is not named as a .csv file"),
    ],
)
def test_bad_input_is_refused_before_anything_is_measured(
    options: list[str],
    said: str,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    check_refusal(in_process("bench", bundle, *options), said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        ["--latency-bound", "soon"],
        ["--precision", "fp32,"],
        ["--threads", "x"],
        ["--batch", "1_0"],
        ["--batch", "１"],
        ["--frames", "9" * 5000],
    ],
)
def test_wrong_usage(options: list[str], bundle: Path) -> None:
    done = in_process("bench", bundle, *options)
    assert (done.status, done.stdout) == (2, "")


def test_what_cannot_be_compared_is_refused(bundle: Path, tmp_path: Path) -> None:
    good, other = profile_of(tmp_path / "a.json", 15.0), tmp_path / "b.json"
    other.write_text('{"schema": "somebody.else", "version": 1}')
    check_refusal(in_process("bench", "--compare", good, other), "b.json is no profile", "'somebody.else'")
    other.write_text(good.read_text().replace('"version": 1', '"version": 9'))
    check_refusal(in_process("bench", "--compare", other, good), "schema version 9")
    check_refusal(in_process("bench", "--compare", good, tmp_path / "none.json"), "none.json")
    check_refusal(in_process("bench", bundle, "--compare", good, good), "no bundle")
    check_refusal(in_process("bench", "--compare", good, good, "--fail-if-slower", "much"), "much")
    for unused in (["--out", tmp_path / "c.json"], ["--layers"], ["--against", "pytorch"], ["--video", "0"]):
        refused = in_process("bench", "--compare", good, good, *unused)
        check_refusal(refused, f"--compare measures nothing: leave {unused[0]} out")
    longer = Document("now", "gaitedge bench", "b", "ab", {}, {}, [make_row(frames=60)])
    write_document(longer, other)
    check_refusal(
        in_process("bench", "--compare", good, other), "no rows of the two profiles can be compared"
    )
    assert in_process("bench").status == 2


def test_another_network_is_refused_before_anything_is_measured(bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gait"
    config = Bundle.open(bundle).config
    bundle_of(dataclasses.replace(config, embedding_dim=2 * config.embedding_dim)).save(other)
    check_refusal(
        in_process("bench", bundle, "--against", other), "that is another network, not the same work"
    )


def test_what_fails_after_the_sweep_loses_nothing_that_was_measured(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "rows.csv")

    out, rows = tmp_path / "a.json", tmp_path / "rows.csv"
    monkeypatch.setattr("gaitedge.profiling.csv_file.write_csv", full)
    done = in_process("bench", bundle, "--frames", 3, *QUICK, "--csv", rows, "--json")
    assert done.status == 1
    assert done.stderr == (
        "gaitedge: No space left on device: rows.csv; make room there and run the command again\n"
    )
    assert len(json.loads(done.stdout)["rows"]) == 1  # it is told, although it could not be written

    def interrupted(*_: object, **__: object) -> Document:
        raise KeyboardInterrupt

    monkeypatch.setattr("gaitedge.profiling.details.add_layers", interrupted)
    done = in_process("bench", bundle, "--frames", 3, *QUICK, "--layers", "--out", out)
    assert done.status == 1
    assert done.stderr.startswith("gaitedge: interrupted; what was finished before is kept")
    assert "end to end" in done.stdout
    assert not out.exists()
    assert len(unfinished(out).read_bytes().splitlines()) == 3  # the next try goes on from these


def test_a_path_with_line_breaks_makes_a_profile_that_can_be_read(bundle: Path, tmp_path: Path) -> None:
    odd, out, page = tmp_path / "a\nb\x1b[31m\udcff.gait", tmp_path / "a.json", tmp_path / "a.html"
    odd.write_bytes(bundle.read_bytes())
    done = succeed("bench", odd, "--frames", 3, *QUICK, "--out", out, "--html", page)
    assert read_document(out).bundle.endswith("a\\nb\\x1b[31m\\udcff.gait")
    assert "\x1b" not in done.stdout
    assert "udcff.gait" in page.read_text("utf-8")
    succeed("bench", "--compare", out, out)


def test_where_nothing_can_be_measured_nothing_is_written(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "none.json"
    done = in_process(
        "bench", bundle, *QUICK, "--engine", "tensorrt", "--out", out, "--html", tmp_path / "a.html"
    )
    check_refusal(done, "nothing could be measured: ", "TensorRT")
    assert list(tmp_path.iterdir()) == []  # and the next time is not told what failed this time
