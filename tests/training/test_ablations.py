from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import contents, in_process

from gaitedge.config import GaitPartConfig
from gaitedge.data.store import Store
from gaitedge.errors import InputError
from gaitedge.training.ablations import GROUPS, ablate, columns, on_whom
from gaitedge.training.loop import RunOptions
from gaitedge.training.presets import Recipe
from gaitedge.weights import load_weights

SMALL = GaitPartConfig(channels=(4, 4, 8), embedding_dim=8)
QUICK = Recipe(iterations=2, subjects=2, samples=2, frames=4, precision="fp32", learning_rate=1e-3)
OPTIONS = RunOptions(log_every=1, device="cpu")


def test_the_rows_are_the_paper_s() -> None:
    """Tab. 5, 6 and 7, and in each the baseline once: 96.2, 91.5, 78.7."""
    assert {group: len(rows) for group, rows in GROUPS.items()} == {"A": 4, "B": 5, "C": 3}
    for rows in GROUPS.values():
        baselines = {row.paper for row in rows if row.training == "baseline" and not row.shuffled_test}
        assert baselines == {(96.2, 91.5, 78.7)}
        assert (
            len({row.name for row in rows}) == len({tuple(row.settings.items()) for row in rows}) == len(rows)
        )
    strips = {row.name: row.network.get("strips") for row in GROUPS["A"]}
    assert strips == {
        "A-a": (1, 1, 1, 1, 1, 1),
        "A-b": (1, 1, 1, 1, 8, 8),
        "A-c": None,
        "A-d": (2, 2, 4, 4, 8, 8),
    }


@pytest.mark.parametrize("group", ["A", "B", "C"])
def test_a_group_trains_what_its_rows_say(group: Any, store: Store, tmp_path: Path) -> None:
    rows = ablate(store, tmp_path, group, QUICK, SMALL, options=OPTIONS)
    assert [row.name for row in rows] == [row.name for row in GROUPS[group]]
    assert all(set(row.rank1) == {"NM", "BG"} for row in rows)
    trained = {
        path.name: load_weights(path / "weights.safetensors")[0]
        for path in (tmp_path / "trainings").iterdir()
    }
    for row in GROUPS[group]:
        for name, value in row.network.items():
            assert getattr(trained[row.training], name) == value
        about = json.loads((tmp_path / "trainings" / row.training / "run.json").read_text())
        assert about["order"] == row.order
    assert trained["baseline"] == SMALL
    fingerprints = {row.name: row.weights for row in rows}
    if group == "C":
        assert fingerprints["C-b"] == fingerprints["C-c"] != fingerprints["C-a"]
        assert set(trained) == {"baseline", "C-a"}  # one training for two rows
    else:
        assert len(set(fingerprints.values())) == len(rows)
    titles, cells = columns(rows)
    written = (tmp_path / f"group-{group}.md").read_text().splitlines()
    assert written[0] == f"| {' | '.join(titles)} |"
    assert len(written) == 2 + len(rows) + 2
    assert written[-1] == "4 subjects tested; 4 of them were trained on too"
    assert all(cells[number][-3:] == [f"{x:.1f}" for x in row.paper] for number, row in enumerate(rows))


def test_a_group_goes_on_where_it_stopped(store: Store, tmp_path: Path) -> None:
    seen: list[str] = []

    def stop(name: str, figures: dict[str, Any]) -> None:
        seen.append(name)
        if name == "C-b" and figures["iteration"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ablate(store, tmp_path, "C", QUICK, SMALL, options=OPTIONS, report=stop)
    assert seen == ["C-a", "C-a", "C-b"]
    done = (tmp_path / "rows" / "C-a.json").stat().st_mtime_ns
    seen.clear()
    rows = ablate(
        store, tmp_path, "C", QUICK, SMALL, options=OPTIONS, report=lambda name, _: seen.append(name)
    )
    assert seen == ["C-b", "C-b"]  # C-a is there already, C-c needs no training of its own
    assert (tmp_path / "rows" / "C-a.json").stat().st_mtime_ns == done
    assert len(rows) == 3


def test_a_row_is_judged_again_on_other_subjects(store: Store, tmp_path: Path) -> None:
    for evaluate_on in ("all", "001,002"):
        options = RunOptions(log_every=1, device="cpu", evaluate_on=evaluate_on)
        rows = ablate(store, tmp_path, "C", QUICK, SMALL, "003,004", options)
    assert json.loads((tmp_path / "rows" / "C-a.json").read_text())["tested"] == ["001", "002"]
    assert on_whom(rows) == "2 subjects tested, none of them trained on"


def test_what_cannot_be_ablated_is_refused(store: Store, tmp_path: Path) -> None:
    two = GaitPartConfig(channels=(4, 8), strips=(1, 1, 4, 4), embedding_dim=8)
    with pytest.raises(InputError, match="group A sets p of three blocks; this network has 2"):
        ablate(store, tmp_path, "A", QUICK, two, options=OPTIONS)
    ablate(store, tmp_path, "C", QUICK, SMALL, options=OPTIONS)
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"C-a has 2 iterations already, .*: give --iterations 2 or more"):
        ablate(store, tmp_path, "C", QUICK.changed(iterations=1), SMALL, options=OPTIONS)
    assert contents(tmp_path) == before
    (tmp_path / "rows" / "C-a.json").write_text("{")
    with pytest.raises(InputError, match=r"C-a\.json is damaged: delete it"):
        ablate(store, tmp_path, "C", QUICK, SMALL, options=OPTIONS)


@pytest.mark.slow
def test_the_command_prints_the_table(store: Store, tmp_path: Path) -> None:
    options = ["--preset", "walkers", "--iterations", 1, "--batch", "2,2,4", "--subjects", "all"]
    command = ["ablate", store.path, tmp_path / "out", "--group", "C", "--evaluate-on", "all", *options]
    done = in_process(*command, "--json", "--precision", "fp32")
    assert done.status == 0
    rows = done.json
    assert [row["name"] for row in rows] == ["C-a", "C-b", "C-c"]
    assert "1/1  C-b  loss" in done.stderr  # how it goes
    printed = in_process(*command, "--precision", "fp32").stdout
    assert "C-c" in printed
    assert "65.1" in printed
    assert "shuffled" in printed
