"""Commands that make weights: train, ablate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gaitedge.cli.console import Json, print_json, say, shipped, table, training_progress

if TYPE_CHECKING:
    from gaitedge.data.store import Store

__all__ = ["ablate", "train"]

Preset = Literal["casia-b", "oumvlp", "oumvlp-opengait", "walkers"]

StoreArgument = Annotated[Path, typer.Argument(help="Store of aligned silhouettes.")]
PresetOption = Annotated[Preset, typer.Option(help="Network and recipe; the paper's for CASIA-B.")]
SubjectsOption = Annotated[
    str | None, typer.Option(help="As in 001-074, casia-b/train or all; the preset's by default.")
]
IterationsOption = Annotated[
    int | None, typer.Option(min=1, help="Steps of the optimiser; the preset's by default.")
]
BatchOption = Annotated[
    str | None,
    typer.Option(help="Subjects, sequences of each, frames, as in 8,16,30; the preset's by default."),
]
RateOption = Annotated[float | None, typer.Option(help="Adam's, at its highest; the preset's by default.")]
PrecisionOption = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"] | None,
    typer.Option(help="Of forward and backward; auto takes the fastest."),
]
SeedOption = Annotated[int | None, typer.Option(min=0, help="Of the weights and the batches.")]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="WEIGHTS",
        help="Start from this file instead of random weights, or from walkers, those of GaitEdge.",
    ),
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Fine-tune --weights for INT8 with the ranges of this calibration of theirs, at a low "
        "--learning-rate; RUN/calibration.json is that of the new weights.",
    ),
]
DeviceOption = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train.")]
WorkersOption = Annotated[int | None, typer.Option(min=0, help="Processes that prepare batches.")]
EvaluateOption = Annotated[
    str | None, typer.Option(help="Subjects, as above; the preset's test side by default.")
]
CheckpointOption = Annotated[int, typer.Option(min=1, help="Write a checkpoint every so many iterations.")]


def train(
    store: StoreArgument,
    run: Annotated[Path, typer.Argument(help="Folder of the training; a stopped one goes on there.")],
    preset: PresetOption = "casia-b",
    weights: WeightsOption = None,
    calibration: CalibrationOption = None,
    subjects: SubjectsOption = None,
    iterations: IterationsOption = None,
    batch: BatchOption = None,
    order: Annotated[
        Literal["sorted", "shuffled"] | None, typer.Option(help="Of the frames (Tab. 7).")
    ] = None,
    learning_rate: RateOption = None,
    precision: PrecisionOption = None,
    clip: Annotated[float | None, typer.Option(help="Largest norm of the gradients; off by default.")] = None,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    checkpoint_every: CheckpointOption = 500,
    keep: Annotated[int, typer.Option(min=1, help="Checkpoints that stay.")] = 3,
    evaluate_every: Annotated[
        int, typer.Option(min=0, help="Measure rank-1 every so many iterations; 0: never.")
    ] = 0,
    evaluate_on: EvaluateOption = None,
    json: Json = False,
) -> None:
    """Train GaitPart on a store with the separate triplet loss. Under torchrun on several GPUs or hosts."""
    from gaitedge.errors import InputError, require

    require("torch", "training")
    from gaitedge.data.store import Store
    from gaitedge.training import loop
    from gaitedge.training.presets import PRESETS
    from gaitedge.training.runs import CALIBRATION
    from gaitedge.training.starting import Start

    data, chosen = Store(store), PRESETS[preset]
    if calibration is not None and weights is None:
        raise InputError("--calibration is of some weights: add them, as in --weights gait.safetensors")
    start = Start.read(shipped(weights), calibration) if weights is not None else None
    recipe = chosen.recipe.changed(
        batch,
        iterations=iterations,
        order=order,
        learning_rate=learning_rate,
        precision=precision,
        clip=clip,
        seed=seed,
    )
    who = _those("--subjects", subjects, f"{chosen.split}/train", data)
    if evaluate_on is not None and not evaluate_every:
        raise InputError(
            "--evaluate-on says on whom to evaluate, not when: add --evaluate-every, as in 5000 iterations"
        )
    test = f"{chosen.split}/test"
    options = loop.RunOptions(
        device=device,
        workers=workers,
        checkpoint_every=checkpoint_every,
        keep=keep,
        evaluate_every=evaluate_every,
        evaluate_on=_those("--evaluate-on", evaluate_on, test, data) if evaluate_every else test,
    )
    with training_progress(_first()) as report:
        done = loop.train(data, run, recipe, chosen.config, who, options, report, start=start)
    if not _first():
        return
    if json:
        print_json(done)
    else:
        say(f"{done.weights}: {done.iterations} iterations, {_line(done.figures)}")
        if calibration is not None:
            say(
                f"for INT8: gaitedge export {done.weights} OUT.gait --precision int8 "
                f"--calibration {run / CALIBRATION}"
            )


def ablate(
    store: StoreArgument,
    out: Annotated[Path, typer.Argument(help="Folder of the trainings and tables; run again, it goes on.")],
    group: Annotated[
        Literal["A", "B", "C"], typer.Option(help="A: parts of FConv. B: micro-motion. C: order of frames.")
    ],
    preset: PresetOption = "casia-b",
    subjects: SubjectsOption = None,
    iterations: IterationsOption = None,
    batch: BatchOption = None,
    learning_rate: RateOption = None,
    precision: PrecisionOption = None,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    checkpoint_every: CheckpointOption = 500,
    evaluate_on: EvaluateOption = None,
    json: Json = False,
) -> None:
    """Train and evaluate the rows of the paper's Tables 5 (A), 6 (B) and 7 (C) on a store."""
    from gaitedge.errors import require

    require("torch", "training")
    from gaitedge.data.store import Store
    from gaitedge.training import ablations, loop
    from gaitedge.training.presets import PRESETS

    data, chosen = Store(store), PRESETS[preset]
    recipe = chosen.recipe.changed(
        batch, iterations=iterations, learning_rate=learning_rate, precision=precision, seed=seed
    )
    who = _those("--subjects", subjects, f"{chosen.split}/train", data)
    options = loop.RunOptions(
        device=device,
        workers=workers,
        checkpoint_every=checkpoint_every,
        evaluate_on=_those("--evaluate-on", evaluate_on, f"{chosen.split}/test", data),
    )
    with training_progress(_first()) as report:
        rows = ablations.ablate(
            data,
            out,
            group,
            recipe,
            chosen.config,
            who,
            options,
            lambda name, figures: report({**figures, "row": name}),
        )
    if not _first():
        return
    if json:
        print_json(rows)
    else:
        titles, cells = ablations.columns(rows)
        table(f"Rank-1 in %, identical views excluded; {recipe.iterations} iterations a row", titles, cells)
        say(ablations.on_whom(rows))
        say(f"{out / f'group-{group}.md'}, {out / f'group-{group}.json'}")


def _those(option: str, given: str | None, preset: str, store: Store) -> str:
    """The subjects of an option, or the preset's where the store has any of them."""
    if given is not None:
        return given
    from gaitedge.data.splits import choose_subjects
    from gaitedge.errors import InputError

    try:
        choose_subjects(preset, {sequence.subject for sequence in store.sequences})
    except InputError as error:
        raise InputError(f"{error}: say who with {option}, as in {option} all") from None
    return preset


def _first() -> bool:
    """Whether this is the one process that prints, of those that torchrun has started."""
    return os.environ.get("RANK", "0") == "0"


def _line(figures: dict[str, Any]) -> str:
    return (
        f"loss {figures['loss']:.4f}, non-zero {100 * figures['nonzero']:.1f} %" if figures else "no figures"
    )
