"""The paper's ablations, Tables 5, 6 and 7, on any store: trained, evaluated, in one table.

    OUT/trainings/A-a/       a training; rows that differ in the test alone share one
    OUT/rows/A-a.json        the figures of a row that is done
    OUT/group-A.md, .json    the table

Run again, it goes on: rows that are done stay, a training goes on from its checkpoint.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gaitedge.config import GaitPartConfig
from gaitedge.data.splits import choose_subjects
from gaitedge.errors import InputError
from gaitedge.evaluation.reports import markdown
from gaitedge.files import atomic_write
from gaitedge.training.checkpoints import newest
from gaitedge.training.presets import Order, Recipe
from gaitedge.training.runs import CHECKPOINTS
from gaitedge.weights import fingerprint, load_weights

if TYPE_CHECKING:
    from gaitedge.data.store import Store
    from gaitedge.training.loop import RunOptions

__all__ = ["GROUPS", "AblationRow", "Group", "Row", "ablate", "columns", "on_whom"]

Group = Literal["A", "B", "C"]
_BASELINE = "baseline"


@dataclass(frozen=True)
class Row:
    """A row of Tab. 5, 6 or 7."""

    name: str
    settings: dict[str, str]
    """Column of the table -> what stands there."""
    paper: tuple[float, float, float]
    """Rank-1 in % on CASIA-B's NM, BG and CL, as the paper prints it."""
    network: dict[str, Any] = field(default_factory=dict)
    """Fields of GaitPartConfig that differ from the baseline's."""
    order: Order = "sorted"
    """Of the frames in training."""
    shuffled_test: bool = False

    @property
    def training(self) -> str:
        """The name of its training: rows that train alike share one."""
        return self.name if self.network or self.order == "shuffled" else _BASELINE


def _p(*blocks: int) -> dict[str, str]:
    return {f"Block{number}": str(p) for number, p in enumerate(blocks, 1)}


def _strips(*blocks: int) -> dict[str, tuple[int, ...]]:
    return {"strips": tuple(p for p in blocks for _ in range(2))}


def _mcm(templates: str, attention: str, pooling: str) -> dict[str, str]:
    return {"MTBs": templates, "attention": attention, "TP": pooling}


_OURS = (96.2, 91.5, 78.7)

GROUPS: dict[Group, tuple[Row, ...]] = {
    "A": (  # Tab. 5: p of each block
        Row("A-a", _p(1, 1, 1), (95.6, 88.4, 76.1), _strips(1, 1, 1)),
        Row("A-b", _p(1, 1, 8), (96.6, 90.4, 77.1), _strips(1, 1, 8)),
        Row("A-c", _p(1, 4, 8), _OURS),
        Row("A-d", _p(2, 4, 8), (95.8, 90.7, 78.4), _strips(2, 4, 8)),
    ),
    "B": (  # Tab. 6: micro-motion templates, attention, temporal pooling
        Row("B-a", _mcm("1, 2", "yes", "max"), _OURS),
        Row("B-b", _mcm("1", "yes", "max"), (95.8, 90.8, 76.2), {"templates": (1,)}),
        Row("B-c", _mcm("2", "yes", "max"), (96.1, 90.6, 77.3), {"templates": (2,)}),
        Row("B-d", _mcm("1, 2", "no", "max"), (95.4, 89.3, 73.1), {"attention": False}),
        Row("B-e", _mcm("1, 2", "yes", "mean"), (93.6, 86.5, 70.1), {"temporal_pooling": "mean"}),
    ),
    "C": (  # Tab. 7: the order of the frames
        Row("C-a", {"train": "shuffled", "test": "sorted"}, (95.6, 89.9, 71.5), order="shuffled"),
        Row("C-b", {"train": "sorted", "test": "sorted"}, _OURS),
        Row("C-c", {"train": "sorted", "test": "shuffled"}, (92.5, 85.8, 65.1), shuffled_test=True),
    ),
}


@dataclass(frozen=True)
class AblationRow:
    """What a row came to."""

    name: str
    settings: dict[str, str]
    rank1: dict[str, float]
    """Mean rank-1 of each probe set, 0 to 1, identical views excluded."""
    paper: tuple[float, float, float]
    """In %, on CASIA-B."""
    weights: str
    """Fingerprint of the weights."""
    tested: int
    """Subjects."""
    trained_on_too: int
    """How many of these the training knew; of those the figures say nothing about others."""


def ablate(
    store: Store,
    out: Path,
    group: Group,
    recipe: Recipe,
    config: GaitPartConfig | None = None,
    subjects: str = "all",
    options: RunOptions | None = None,
    report: Callable[[str, dict[str, Any]], None] | None = None,
) -> list[AblationRow]:
    """Train and evaluate the rows of Table 5 (A), 6 (B) or 7 (C), and write their table into `out`.

    recipe, config, subjects: of the baseline, as gaitedge.training.loop.train takes them; the paper's
    p are for three blocks. options: how to train; `evaluate_on` says on whom the rows are judged.
    report: called with a row's name and the figures of its training.
    Raises what `train` raises, and InputError where the network cannot have the group's settings or a row
    was trained for more iterations before.
    """
    from gaitedge.model import GaitPart
    from gaitedge.training.distributed import team
    from gaitedge.training.judging import judge, to_judge
    from gaitedge.training.loop import RunOptions, train

    out, config, options = Path(out), config or GaitPartConfig(), options or RunOptions()
    if group == "A" and len(config.channels) != 3:
        raise InputError(f"group A sets p of three blocks; this network has {len(config.channels)}")
    if out.is_dir() and not (out / "trainings").is_dir() and any(out.iterdir()):
        raise InputError(f"{out} is not empty and holds no ablation: choose another folder")
    _check_iterations(out, GROUPS[group], recipe)
    numbers = to_judge(store, options.evaluate_on)
    tested = sorted({store.sequences[number].subject for number in numbers})
    known = len(choose_subjects(subjects, {sequence.subject for sequence in store.sequences}) & {*tested})
    networks = {row.name: dataclasses.replace(config, **row.network) for row in GROUPS[group]}
    done = []
    with team(options.device) as crew:
        for row in GROUPS[group]:
            trained = train(
                store,
                out / "trainings" / row.training,
                recipe.changed(order=row.order),
                networks[row.name],
                subjects,
                dataclasses.replace(options, evaluate_every=0),
                functools.partial(report, row.name) if report else None,
                crew,
            )
            crew.wait()
            network, weights = load_weights(trained.weights)
            identity = fingerprint(network, weights)
            path = out / "rows" / f"{row.name}.json"
            rank1 = _finished(path, identity, tested)
            if rank1 is None:
                model = GaitPart(network).load(weights).to(crew.device)
                rank1 = judge(model, store, numbers, crew, shuffled=row.shuffled_test)
                if crew.rank == 0:
                    _write(path, {"rank1": rank1, "weights": identity, "tested": tested})
            done.append(AblationRow(row.name, row.settings, rank1, row.paper, identity, len(tested), known))
        if crew.rank == 0:
            rows = [dataclasses.asdict(row) for row in done]
            _write(out / f"group-{group}.json", {"iterations": recipe.iterations, "rows": rows})
            with atomic_write(out / f"group-{group}.md") as file:
                file.write(_markdown(done).encode())
    return done


def columns(rows: list[AblationRow]) -> tuple[list[str], list[list[str]]]:
    """Titles and cells of the table: ours in %, the paper's beside them."""
    sets = list(rows[0].rank1)
    titles = ["row", *rows[0].settings, *sets, "paper, CASIA-B: NM", "BG", "CL"]
    cells = [
        [
            row.name,
            *row.settings.values(),
            *(f"{100 * row.rank1[name]:.1f}" for name in sets),
            *(f"{figure:.1f}" for figure in row.paper),
        ]
        for row in rows
    ]
    return titles, cells


def on_whom(rows: list[AblationRow]) -> str:
    """How many subjects the table is about, and whether it may be believed."""
    known = rows[0].trained_on_too
    known_too = f"; {known} of them were trained on too" if known else ", none of them trained on"
    return f"{rows[0].tested} subjects tested{known_too}"


def _check_iterations(out: Path, rows: Iterable[Row], recipe: Recipe) -> None:
    """Raise InputError where a row was trained for more iterations than the table is to say."""
    for row in rows:
        run = out / "trainings" / row.training
        checkpoint = newest(run / CHECKPOINTS)
        if checkpoint and int(checkpoint.stem) > recipe.iterations:
            raise InputError(
                f"{run} has {int(checkpoint.stem)} iterations already, and rows are compared after equally "
                f"many: give --iterations {int(checkpoint.stem)} or more, or another folder"
            )


def _markdown(rows: list[AblationRow]) -> str:
    return "\n".join([*markdown(*columns(rows)), "", on_whom(rows), ""])


def _finished(path: Path, identity: str, tested: list[str]) -> dict[str, float] | None:
    """The figures of a row that was evaluated before, with these weights on these subjects."""
    try:
        found = json.loads(path.read_bytes())
        same = (found["weights"], found["tested"]) == (identity, tested)
        return {name: float(share) for name, share in found["rank1"].items()} if same else None
    except FileNotFoundError:
        return None
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(f"{path} is damaged: delete it, and the row is evaluated again") from None


def _write(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(json.dumps(value, indent=2).encode() + b"\n")
