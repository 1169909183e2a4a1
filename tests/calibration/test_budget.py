"""Which layers a budget of rank-1 keeps in floating point, where it is stated what each set of them costs."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pytest
from networks import random_weights

from gaitedge.calibration import sensitivity
from gaitedge.calibration.calibration import Calibration
from gaitedge.calibration.sensitivity import Sensitivity, find_sensitivity
from gaitedge.calibration.study import Change
from gaitedge.config import GaitPartConfig
from gaitedge.data.store import Store
from gaitedge.errors import InputError
from gaitedge.export.plan import layer_names
from gaitedge.weights import fingerprint


class Stated:
    """Stands for Study: the fall of rank-1 of each set of layers in int8 is as stated, 0 where it is not."""

    def __init__(self, drops: dict[frozenset[str], float], cosines: dict[frozenset[str], float]) -> None:
        self.numbers, self.protocol, self.asked = [0], "casia-b", 0
        self._drops, self._cosines = drops, cosines

    def report(self, *_: object) -> None:
        pass

    def embed_fp32(self) -> dict[str, float | None]:
        return {"NM": 1.0}

    def change(self, layers: Collection[str]) -> Change:
        self.asked += 1
        key = frozenset(layers)
        return Change(0.0, self._cosines.get(key, 0.5), 0.0, {}, {"NM": -self._drops.get(key, 0.0)})

    def latency(self, networks: Sequence[Collection[str]]) -> tuple[list[float], float, str]:
        return [1.0] * len(networks), 2.0, "stated"


def search(monkeypatch: pytest.MonkeyPatch, store: Path, stated: Stated, layers: int) -> Sensitivity:
    config = GaitPartConfig(channels=(4, 8, 12), strips=(1,) * 6, parts=4, embedding_dim=8)
    weights, names = random_weights(config, 0), layer_names(config)
    ranges = {layer: 255.0 if layer == "fconv1" else 4.0 for layer in names}
    given = Calibration(fingerprint(config, weights), "0" * 64, "minmax", 1, ranges, names[layers:])
    monkeypatch.setattr(sensitivity, "Study", lambda *_: stated)
    return find_sensitivity(config, weights, given, Store(store), max_drop=0.3)


@pytest.mark.parametrize("seed", range(40))
def test_the_fewest_of_six_layers_are_kept(store: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held against all 63 sets, of falls that the cosines say nothing about."""
    rng, names = np.random.default_rng(seed), [f"fconv{layer}" for layer in range(1, 7)]
    sets = [frozenset(some) for count in range(1, 7) for some in itertools.combinations(names, count)]
    within = rng.random(len(sets)) < [0.02, 0.1, 0.5][seed % 3]
    within[rng.integers(6)] = True  # one of the single layers, without which nothing is looked for
    drops = {some: float(good) * -0.1 + float(not good) for some, good in zip(sets, within, strict=True)}
    cosines = {some: float(rng.random()) for some in sets}
    found = search(monkeypatch, store, Stated(drops, cosines), 6)
    assert len(found.kept) == 6 - max(len(some) for some, drop in drops.items() if drop <= 0.3)
    assert drops[frozenset(names) - {*found.kept}] <= 0.3
    assert [len(point.kept) for point in found.frontier] == list(range(6))
    assert found.frontier[len(found.kept)].kept == found.kept
    assert all(point.change.drop > 0.3 for point in found.frontier[: len(found.kept)])


def test_the_layers_that_the_cosines_name_are_kept_where_they_do(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = layer_names(GaitPartConfig())[:6]
    everything = frozenset(names)
    cosines = {everything - {name}: 0.9 + 0.01 * place for place, name in enumerate(names)}
    found = search(monkeypatch, store, Stated({everything: 1.0}, cosines), 6)
    assert found.kept == ("fconv6",)  # though every other one would do
    assert [point.kept for point in found.frontier[2:4]] == [names[4:], names[3:]]


@pytest.mark.parametrize("hopeful", [True, False])
def test_the_search_among_many_layers_ends(
    store: Path, hopeful: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of eleven layers there are 2047 sets; without one that can be quantised alone, few are looked at."""
    names = layer_names(GaitPartConfig())
    sets = (frozenset(some) for count in range(1, 12) for some in itertools.combinations(names, count))
    drops = {some: 1.0 for some in sets if len(some) > 1 or not hopeful}
    stated = Stated(drops, {})
    if hopeful:
        assert len(search(monkeypatch, store, stated, 11).kept) == 10
        assert stated.asked < 250
    else:
        with pytest.raises(InputError, match=r"the smallest fall is 1\.00"):
            search(monkeypatch, store, stated, 11)
        assert stated.asked < 40
