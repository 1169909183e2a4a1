from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from networks import random_weights
from numpy.typing import NDArray

from gaitedge.config import GaitPartConfig
from gaitedge.data.store import Store
from gaitedge.errors import InputError
from gaitedge.evaluation import Evaluation, evaluate, evaluate_embeddings
from gaitedge.export.exporter import export
from gaitedge.model import GaitPart
from gaitedge.walkers.synthesis import synthesise
from gaitedge.weights import save_weights

Array = NDArray[np.float32]
SMALL = GaitPartConfig(channels=(4, 4, 8), embedding_dim=8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_weights(folder / "small.safetensors", SMALL, random_weights(SMALL, 0))
    export(folder / "small.safetensors", folder / "small.gait")
    return folder / "small.gait"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("walks") / "store"
    conditions, views = ("nm-01", "nm-05"), ("054", "072", "090")
    synthesise(path, subjects=3, views=views, conditions=conditions, store=True, workers=1)
    return path


def embedded(walks: list[NDArray[np.uint8]]) -> Array:
    with torch.inference_mode():
        network = GaitPart(SMALL).load(random_weights(SMALL, 0))
        return np.stack([network(torch.from_numpy(np.array(walk[None])))[0].numpy() for walk in walks])


def close(found: Evaluation, expected: Evaluation) -> bool:
    """The same ranks of NM, and nearly the same distances: they come from two runtimes."""
    mine, theirs = found.probe_sets["NM"], expected.probe_sets["NM"]
    assert mine.verification is not None
    assert theirs.verification is not None
    return mine.all_probes == theirs.all_probes and mine.verification.threshold == pytest.approx(
        theirs.verification.threshold, rel=1e-4
    )


def test_weights_and_their_bundle_are_judged_alike(model: Path, store: Path) -> None:
    """`evaluate` is embedding plus the protocol, whichever file it is given."""
    walks = Store(store)
    expected = evaluate_embeddings(embedded(list(walks)), walks.sequences)
    assert close(evaluate(model.with_suffix(".safetensors"), store), expected)
    assert close(evaluate(model, store, engine="onnxruntime"), expected)


def test_shuffled_frames(model: Path, store: Path) -> None:
    """Row c of Tab. 7: the same frames of every sequence, in an order of its own."""
    walks, views = Store(store), ["054", "090"]
    numbers = walks.select(views=views)
    mixed = [
        frames[np.random.default_rng(number).permutation(len(frames))]
        for number, frames in ((number, walks[number]) for number in numbers)
    ]
    expected = evaluate_embeddings(embedded(mixed), [walks.sequences[number] for number in numbers])
    assert close(evaluate(model, store, views=views, shuffled=True), expected)
    assert not close(evaluate(model, store, views=views), expected)


def test_a_part_of_a_store(model: Path, store: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    result = evaluate(
        *(model, store, "casia-b", "001,003", ["054", "090"]), progress=lambda *step: seen.append(step)
    )
    assert (result.subjects, result.views, result.gallery, result.probes) == (2, ("054", "090"), 4, 4)
    embedding = [step for step in seen if step[2] == "embedding"]
    assert embedding[-1] == (8, 8, "embedding")
    assert seen[-1] == (8, 8, "comparing")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"views": ["000", "090"]}, "no sequence at the views 000; there are 054, 072, 090"),
        ({"views": ["090", ""]}, "no sequence at the views ''; there are"),
        ({"views": ["090"]}, "only view 090"),
        ({"subjects": "casia-b/test"}, "no subject is in 'casia-b/test'"),
        ({"protocol": "oumvlp"}, "no gallery for OU-MVLP's protocol"),
        ({"protocol": "casia"}, "unknown protocol"),
        ({"engine": "abacus"}, "unknown engine"),
    ],
)
def test_what_a_store_has_not(options: dict[str, object], words: str, model: Path, store: Path) -> None:
    with pytest.raises(InputError, match=words):
        evaluate(model, store, **options)  # type: ignore[arg-type]
