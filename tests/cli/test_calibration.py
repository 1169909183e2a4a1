"""INT8 as a user comes to it: calibrate, export, look, measure."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commands import Done, Refused, check_refusal, contents, in_process, succeed
from processes import check_interrupted, linux, press, start, until
from small_walks import make_store

from gaitedge.calibration.calibration import Calibration
from gaitedge.calibration.collecting import calibrate


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("walks") / "store")


@pytest.fixture(scope="module")
def calibrated(weights: Path, walks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("calibration") / "int8.json"
    succeed("calibrate", weights, walks, out)
    return out


def test_the_whole_way(weights: Path, walks: Path, tmp_path: Path) -> None:
    out, box = tmp_path / "int8.json", tmp_path / "box.gait"
    told = succeed("calibrate", weights, walks, out).stdout
    assert "percentile of 36 sequences" in told
    assert f"gaitedge export {weights} OUT.gait --precision int8 --calibration {out}" in told
    done = succeed("export", weights, box, "--target", "cpu", "--precision", "int8", "--calibration", out)
    assert "target cpu, int8" in done.stdout
    assert "agrees with the paper's letter" in done.stdout
    succeed("export", box, "--target", "onnxruntime", "--precision", "int8")  # the bundle has it now
    shown = succeed("inspect", box, "--json").json["manifest"]
    assert {name: target["graph"] for name, target in shown["targets"].items()} == {
        "cpu-int8": "graphs/cpu-int8.onnx",
        "onnxruntime-int8": "graphs/onnxruntime-int8.onnx",
    }
    assert "calibration.json" in shown["members"]
    told = succeed("inspect", box).stdout
    assert "cpu-int8 runs in int8 kernels: " in told
    assert "onnxruntime-int8 runs in int8 kernels: " in told
    quick = ["--seconds", 0.01, "--repeats", 2]
    assert ", int8, " in succeed("bench", box, *quick, "--json").json["rows"][0]["description"]
    found = succeed("verify", box, walks, "--targets", "letter,cpu-int8", "--json").json["comparison"]
    assert 0.97 < found["mean_cosine"] < 1
    graph = succeed("export", weights, tmp_path / "net.onnx", "--calibration", out)
    assert "int8" in graph.stdout
    graph = succeed("export", box, tmp_path / "fp8.onnx", "--precision", "fp8")  # the bundle's calibration
    assert ", fp8" in graph.stdout
    assert "agrees with the paper's letter" in graph.stdout


def test_the_document(weights: Path, walks: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8.json"
    done = succeed("calibrate", weights, walks, out, "--method", "minmax", "--temporal-head", "--json")
    assert done.json["sensitivity"] is None
    assert done.json["calibration"]["method"] == "minmax"
    assert done.json["calibration"]["floating"] == []
    made = Calibration.load(out)
    assert done.json["calibration"]["ranges"] == made.ranges
    assert {"fconv1", "fconv6", "mtb1.squeeze", "fc"} <= dict(made.scales()).keys()


def test_a_budget_of_rank_1(weights: Path, walks: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8.json"
    budget = ["--max-drop", 100, "--correct-biases", "--sequences", 32]
    done = succeed("calibrate", weights, walks, out, *budget)
    assert "Layers kept in floating point" in done.stdout
    assert Calibration.load(out).biases
    found = succeed("calibrate", weights, walks, out, *budget, "--json").json["sensitivity"]
    assert found["kept"] == []
    assert [len(point["kept"]) for point in found["frontier"]] == list(range(6))


def test_what_each_layer_costs(weights: Path, walks: Path, tmp_path: Path) -> None:
    """Without a budget nobody is kept in floating point."""
    out = tmp_path / "int8.json"
    done = succeed("calibrate", weights, walks, out, "--sequences", 32, "--judge-on", "001-002")
    assert "One layer in int8, 24 sequences" in done.stdout
    assert "All layers in int8 but one, 24 sequences" in done.stdout
    assert "Layers kept in floating point" not in done.stdout
    assert {layer for layer, _ in Calibration.load(out).scales()} == {f"fconv{n}" for n in range(1, 7)}


def test_a_cache_for_trtexec(weights: Path, walks: Path, tmp_path: Path, refused: Refused) -> None:
    cache = ["--tensorrt-cache", tmp_path / "cache"]
    refused(["calibrate", weights, walks, tmp_path / "int8.json", *cache], "give --no-equalize")
    succeed("calibrate", weights, walks, tmp_path / "int8.json", "--no-equalize", *cache)
    lines = (tmp_path / "cache").read_text().splitlines()
    assert lines[0] == "TRT-8601-EntropyCalibration2"
    assert len(lines) > 6


def test_what_is_refused_before_the_work(
    weights: Path, walks: Path, tmp_path: Path, refused: Refused
) -> None:
    out = tmp_path / "int8.json"
    out.write_text("precious")
    plain = ["calibrate", weights, walks, out, "--no-equalize"]
    refused([*plain, "--tensorrt-cache", out], "is the calibration; name another file")
    refused([*plain, "--tensorrt-cache", tmp_path / "none" / "cache"], "there is no folder")
    refused([*plain, "--max-drop", 1, "--judge-on", "099"], "no subject '099'")
    refused([*plain, "--judge-on", "099"], "no subject '099'")


def test_what_it_is_made_from_is_kept(weights: Path, walks: Path, tmp_path: Path, refused: Refused) -> None:
    mine, store = Path(shutil.copy(weights, tmp_path)), Path(shutil.copytree(walks, tmp_path / "walks"))
    refused(["calibrate", mine, store, mine], f"{mine.name} is a name for a model; name the calibration")
    refused(["calibrate", mine, store, store / "store.json"], "is a part of what is calibrated or shown")
    plain = ["calibrate", mine, store, tmp_path / "int8.json", "--no-equalize", "--tensorrt-cache"]
    refused([*plain, mine], f"{mine.name} is a name for a model")
    refused([*plain, store / "index.jsonl"], "is a part of what is calibrated or shown")


@pytest.mark.parametrize(
    ("name", "value"),
    [("ranges", 10**400), ("ranges", 1e308), ("ranges", True), ("ranges", "0.5"), ("factors", 1e-300)],
)
def test_numbers_that_are_none(
    name: str, value: object, weights: Path, calibrated: Path, tmp_path: Path, refused: Refused
) -> None:
    values = json.loads(calibrated.read_text())
    values[name]["fconv2"] = value if name == "ranges" else [value] * 4
    wild = tmp_path / "wild.json"
    wild.write_text(json.dumps(values))
    refused(["export", weights, tmp_path / "box.gait", "--calibration", wild], "wild.json")


def test_what_cannot_be_calibrated(
    weights: Path, walks: Path, store: Path, calibrated: Path, tmp_path: Path, refused: Refused
) -> None:
    out = tmp_path / "int8.json"
    shutil.copy(calibrated, out)  # which each of these leaves as it is
    refused(["calibrate", weights, store, out], "needs 32 sequences or more, and", "has 8")
    refused(["calibrate", weights, walks, out, "--sequences", 31], "needs 32 sequences or more, not 31")
    refused(["calibrate", weights, walks, out, "--subjects", "9"], "no subject '9'")
    refused(["calibrate", weights, walks, tmp_path], "is a folder")


def test_what_cannot_be_exported(
    weights: Path, bundle: Path, other_bundle: Path, calibrated: Path, tmp_path: Path, refused: Refused
) -> None:
    box = Path(shutil.copy(bundle, tmp_path / "box.gait"))
    other = Path(shutil.copy(other_bundle, tmp_path / "other.gait"))
    int8 = ["--precision", "int8"]
    refused(["export", box, *int8], "has no calibration; run: gaitedge calibrate")
    refused(["export", other, *int8, "--calibration", calibrated], "it is of other weights")
    refused(
        ["export", box, "--precision", "fp32", "--calibration", calibrated],
        "fp32 has no use for a calibration",
    )
    refused(["export", box, *int8, "--calibration", tmp_path / "none.json"], "none.json")
    damaged = tmp_path / "damaged.json"
    damaged.write_text(calibrated.read_text().replace("0.", "-0.", 1))
    refused(["export", box, *int8, "--calibration", damaged], "damaged.json")
    damaged.write_text(json.dumps({"format": 1}))
    refused(["export", box, *int8, "--calibration", damaged], "damaged.json")
    refused(["bench", box, *int8], "holds no int8 graph; run: gaitedge export")


@linux
def test_an_interrupted_calibration_goes_on(
    weights: Path, walks: Path, calibrated: Path, tmp_path: Path
) -> None:
    out = tmp_path / "int8.json"
    process = start("calibrate", weights, walks, out)
    until(lambda: any(tmp_path.iterdir()), process)
    done = press(process)
    if check_interrupted(done):
        assert not out.exists()
        assert set(contents(tmp_path)) <= {".int8.json.unfinished"}
    succeed("calibrate", weights, walks, out)
    assert out.read_bytes() == calibrated.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"int8.json"}


def test_what_an_interrupted_run_has_counted_is_told(
    weights: Path, walks: Path, calibrated: Path, tmp_path: Path
) -> None:
    out = tmp_path / "int8.json"

    def stop(done: int, _: int) -> None:
        if done == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(weights, walks, out, progress=stop)
    done = succeed("calibrate", weights, walks, out)
    assert done.stdout.startswith("25 of 36 sequences had been counted by a run that was interrupted\n")
    assert out.read_bytes() == calibrated.read_bytes()
    assert "had been counted" not in succeed("calibrate", weights, walks, out).stdout


def test_no_store_at_all(weights: Path, tmp_path: Path) -> None:
    done: Done = in_process("calibrate", weights, tmp_path, tmp_path / "int8.json")
    check_refusal(done, str(tmp_path))
