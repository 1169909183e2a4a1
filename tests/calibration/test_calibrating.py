from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from networks import random_silhouettes
from numpy.typing import NDArray
from small_walks import SMALL, SUBJECTS, WEIGHTS, make_store

from gaitedge.calibration import collecting
from gaitedge.calibration.calibration import METHODS, Calibration
from gaitedge.calibration.collecting import MINIMUM, calibrate, choose, collect, fingerprint_shown, show
from gaitedge.calibration.correction import apply_factors
from gaitedge.calibration.observers import OBSERVERS
from gaitedge.data.store import Store
from gaitedge.errors import InputError, StoreError, WeightsError
from gaitedge.export.exporter import export
from gaitedge.weights import fingerprint, save_weights

# Calibrating --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_calibration_has_the_ranges_of_its_method(
    method: str, store: Path, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "int8.json"
    made = calibrate(weights, store, out, method, equalized=False, threads=1)  # type: ignore[arg-type]
    assert Calibration.load(out) == made
    assert [*tmp_path.iterdir()] == [out]
    made.check(SMALL, WEIGHTS)
    data = Store(store)
    numbers = choose(data, SUBJECTS, 500)
    histograms = collect(SMALL, WEIGHTS, data, numbers, threads=1)
    expected = {layer: OBSERVERS[method](histogram) for layer, histogram in histograms.items()}
    assert made.ranges == {"fconv1": 255.0, **expected}
    assert made.method == method
    assert made.sequences == 36
    assert made.data == fingerprint_shown(data, numbers, 30)
    assert made.weights == fingerprint(SMALL, WEIGHTS)
    assert {"gaitedge", "onnxruntime"} <= {*made.versions} or {"gaitedge", "openvino"} <= {*made.versions}


def test_channels_are_equalised_first(store: Path, weights: Path, tmp_path: Path) -> None:
    """The ranges are those of the equalised network, and the file is bound to the weights as trained."""
    made = calibrate(weights, store, tmp_path / "int8.json", "minmax", threads=1)
    made.check(SMALL, WEIGHTS)
    assert [*made.factors] == ["fconv1", "fconv2", "fconv3"]
    assert min(min(values) for values in made.factors.values()) < 0.9
    numbers = choose(Store(store), SUBJECTS, 500)
    equal = apply_factors(SMALL, WEIGHTS, made.factors)
    histograms = collect(SMALL, equal, Store(store), numbers, threads=1)
    assert {layer: histogram.largest for layer, histogram in histograms.items()} == {
        layer: value for layer, value in made.ranges.items() if layer != "fconv1"
    }


def test_the_temporal_head_is_in_floating_point_unless_it_is_asked_for(
    store: Path, weights: Path, tmp_path: Path
) -> None:
    made = calibrate(weights, store, tmp_path / "a.json", sequences=MINIMUM)
    assert [layer for layer, _ in made.scales()] == ["fconv1", "fconv2", "fconv3", "fconv4"]
    assert {*made.floating} == {*made.ranges} - {layer for layer, _ in made.scales()}
    whole = calibrate(weights, store, tmp_path / "b.json", sequences=MINIMUM, temporal_head=True)
    assert whole.floating == ()
    assert whole.ranges == made.ranges


def test_a_bundle_is_calibrated_as_its_weights_are(store: Path, weights: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "small.gait"
    export(weights, bundle)
    first = calibrate(weights, store, tmp_path / "a.json", threads=1)
    assert calibrate(bundle, store, tmp_path / "b.json", threads=1) == first


# Bad input ----------------------------------------------------------------------------------------


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """A calibration that every refusal leaves as it was, with nothing beside it."""
    path = tmp_path / "int8.json"
    path.write_text("what was there")
    before = {*tmp_path.iterdir()}
    yield path
    assert path.read_text() == "what was there"
    assert {*tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "guess"}, "unknown method 'guess'; there are: minmax, percentile, entropy, mse"),
        ({"sequences": 31}, "a calibration needs 32 sequences or more, not 31: .*"),
        ({"sequences": 0}, "a calibration needs 32 sequences or more, not 0: .*"),
        ({"frames": 0}, "a calibration needs 1 frames or more, not 0"),
        ({"threads": 0}, "a calibration needs 1 threads or more, not 0"),
        ({"subjects": "001"}, "a calibration needs 32 sequences or more, and .*store has 12 of 001: .*"),
        ({"subjects": "009"}, "there is no subject '009'; there are 3 subjects, 001 to 003"),
    ],
)
def test_impossible_demands_are_refused(
    changes: dict[str, object], message: str, store: Path, weights: Path, out: Path
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        calibrate(weights, store, out, **changes)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_all_black_sequences_are_refused_by_name(
    weights: Path, out: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def dark(number: int) -> NDArray[np.uint8]:
        """Of five walks only the first frame shows somebody: a store takes none that is black all over."""
        walk = random_silhouettes(1, 9, number)[0]
        walk[1:] *= number not in (1, 3, 8, 9, 20)
        return walk

    store = make_store(tmp_path_factory.mktemp("dark") / "store", dark)
    data = Store(store)
    black = {data.sequences[number].name for number in range(36) if not show(data, number, 2).any()}
    assert len(black) >= 4
    with pytest.raises(InputError, match="nobody is in ") as caught:
        calibrate(weights, store, out, frames=2)
    text = str(caught.value)
    assert sum(name in text for name in black) == 3
    assert f" and {len(black) - 3} more: " in text
    assert "\n" not in text


def test_a_layer_that_never_fires_is_refused_by_name(
    store: Path, out: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    silent = {**WEIGHTS, "frame.1": np.zeros_like(WEIGHTS["frame.1"])}
    path = tmp_path_factory.mktemp("silent") / "silent.safetensors"
    save_weights(path, SMALL, silent)
    with pytest.raises(InputError, match=r"^nothing but zeros was read by fconv3, .*, fc in 36 sequences: "):
        calibrate(path, store, out)


@pytest.mark.parametrize(("layer", "factor"), [("frame.2", 3e38), ("frame.1", 1e30)])
def test_activations_that_overflow_are_refused_by_layer_and_sequence(
    layer: str, factor: float, store: Path, out: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    large = {**WEIGHTS, layer: np.clip(WEIGHTS[layer] * np.float32(factor / 10), -3e38, 3e38)}
    large["frame.3"] = np.clip(large["frame.3"] * np.float32(1e30), -3e38, 3e38)
    path = tmp_path_factory.mktemp("large") / "large.safetensors"
    save_weights(path, SMALL, large)
    data = Store(store)
    first = data.sequences[choose(data, SUBJECTS, 500)[0]].name
    with pytest.raises(
        InputError, match=rf"reads NaN or infinite values in {first}: the model or its training"
    ):
        calibrate(path, store, out)


def test_data_of_another_size_is_refused(
    weights: Path, out: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = make_store(tmp_path_factory.mktemp("wide") / "store")
    np.save(store / "frames.npy", np.zeros((len(Store(store).frames), 64, 64), np.uint8))
    with pytest.raises(StoreError, match="64") as caught:
        calibrate(weights, store, out)
    assert "\n" not in str(caught.value)


def test_what_is_no_model_or_no_store_is_refused(weights: Path, store: Path, out: Path) -> None:
    with pytest.raises(WeightsError, match="no weights file at"):
        calibrate(out.parent / "none.safetensors", store, out)
    with pytest.raises(StoreError, match="no store at"):
        calibrate(weights, out.parent, out)


def test_a_place_to_which_nothing_can_be_written_is_refused_before_the_work(
    weights: Path, store: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"is a folder; name the calibration to write, as in .*int8.json"):
        calibrate(weights, store, tmp_path)
    with pytest.raises(InputError, match=r"cannot write .*: there is no folder .*none"):
        calibrate(weights, store, tmp_path / "none" / "int8.json")


def test_what_it_is_made_from_is_not_written_over(weights: Path, store: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.json"  # of weights, whatever their name is
    mine.write_bytes(weights.read_bytes())
    link = tmp_path / "link.json"
    link.symlink_to(mine)
    for out in (mine, link):
        with pytest.raises(InputError, match=rf"{out.name} is a part of what is calibrated or shown; name "):
            calibrate(mine, store, out)
    assert mine.read_bytes() == weights.read_bytes()
    before = (store / "store.json").read_bytes()
    with pytest.raises(InputError, match="is a part of what is calibrated or shown; name another file"):
        calibrate(weights, store, store / "store.json")
    assert (store / "store.json").read_bytes() == before
    for name in ("other.safetensors", "box.gait"):
        with pytest.raises(InputError, match=rf"{name} is a name for a model; name the calibration to write"):
            calibrate(weights, store, tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.json", "link.json"}


# Interruption -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stops", [[11], [3], [35], [8, 20, 21, 30]])
def test_an_interrupted_run_goes_on_to_the_same_result(
    stops: list[int], store: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "_EVERY", 5)
    whole = calibrate(weights, store, tmp_path / "whole.json", threads=1)
    out = tmp_path / "int8.json"
    out.write_text("what was there")
    begun = 0
    for stop in stops:
        told: list[int] = []

        def interrupt(done: int, total: int, stop: int = stop, told: list[int] = told) -> None:
            told.append(done)
            if done == stop and len(told) > 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            calibrate(weights, store, out, threads=1, progress=interrupt)
        assert told[0] == (begun or 1)
        begun = stop - stop % 5
        assert out.read_text() == "what was there"
    told = []
    resumed = calibrate(weights, store, out, threads=1, progress=lambda done, _: told.append(done))
    assert told == [*range(begun or 1, 37)]
    assert resumed == whole
    assert out.read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["int8.json", "whole.json"]


def test_an_interruption_after_the_last_sequence_costs_nothing(
    store: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "_EVERY", 6)

    def interrupt(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(weights, store, tmp_path / "int8.json", threads=1, progress=interrupt)
    told: list[int] = []
    calibrate(weights, store, tmp_path / "int8.json", "mse", threads=1, progress=lambda *a: told.append(a[0]))
    assert told == [36]  # and another method reads the same counts


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"frames": 4}, {"subjects": "001-003", "sequences": 34}, {"threads": 2}]
)
def test_what_another_run_has_left_is_not_taken(
    changes: dict[str, object], store: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "_EVERY", 5)

    def interrupt(done: int, total: int) -> None:
        if done == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(weights, store, tmp_path / "int8.json", progress=interrupt, **{"threads": 1, **changes})  # type: ignore[arg-type]
    assert (tmp_path / ".int8.json.unfinished").is_file()
    told: list[int] = []
    made = calibrate(weights, store, tmp_path / "int8.json", threads=1, progress=lambda *a: told.append(a[0]))
    assert told[0] == 1
    assert made == calibrate(weights, store, tmp_path / "other.json", threads=1)
    assert not (tmp_path / ".int8.json.unfinished").exists()
