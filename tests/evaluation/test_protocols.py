from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import random_weights
from numpy.typing import NDArray

from gaitedge.config import GaitPartConfig
from gaitedge.data.store import Store
from gaitedge.errors import InputError
from gaitedge.evaluation.protocols import evaluate, evaluate_casia_b, rank1
from gaitedge.export.exporter import export
from gaitedge.model import GaitPart
from gaitedge.walkers.synthesis import synthesise
from gaitedge.weights import save_weights

CONDITIONS = [*(f"nm-0{i}" for i in range(1, 7)), "bg-01", "bg-02", "cl-01", "cl-02"]


@dataclass(frozen=True)
class Walk:
    subject: str
    condition: str
    view: str


def make(
    subjects: int, views: list[str], noise: float, seed: int = 0
) -> tuple[NDArray[np.float32], list[Walk]]:
    rng = np.random.default_rng(seed)
    walks = [
        Walk(f"{subject:03}", condition, view)
        for subject in range(subjects)
        for condition in CONDITIONS
        for view in views
    ]
    centres = rng.standard_normal((subjects, 4, 8))
    embeddings = np.stack([centres[int(walk.subject)] for walk in walks])
    embeddings += noise * rng.standard_normal(embeddings.shape)
    return embeddings.astype(np.float32), walks


def stated(embeddings: NDArray[np.float32], walks: list[Walk], kind: str, probe_view: str) -> float | None:
    """Sec. 4.1 word by word, in loops: the mean over the other views of the rank-1 accuracy."""
    accuracies = []
    for gallery_view in {walk.view for walk in walks} - {probe_view}:
        gallery = [
            (e, w)
            for e, w in zip(embeddings, walks, strict=True)
            if w.condition in ("nm-01", "nm-02", "nm-03", "nm-04") and w.view == gallery_view
        ]
        numbers = ("05", "06") if kind == "NM" else ("01", "02")
        probes = [
            (e, w)
            for e, w in zip(embeddings, walks, strict=True)
            if w.condition in [f"{kind.lower()}-{number}" for number in numbers] and w.view == probe_view
        ]
        if not gallery or not probes:
            continue
        right = 0
        for probe, walk in probes:
            nearest = min(
                gallery,
                key=lambda known: np.mean(
                    [np.linalg.norm(a - b) for a, b in zip(probe, known[0], strict=True)]
                ),
            )
            right += nearest[1].subject == walk.subject
        accuracies.append(right / len(probes))
    return sum(accuracies) / len(accuracies) if accuracies else None


def check(embeddings: NDArray[np.float32], walks: list[Walk]) -> None:
    result = evaluate_casia_b(embeddings, walks)
    views = sorted({walk.view for walk in walks})
    for kind in ("NM", "BG", "CL"):
        assert list(result.by_view[kind]) == views
        expected = {view: stated(embeddings, walks, kind, view) for view in views}
        assert result.by_view[kind] == {
            view: None if figure is None else pytest.approx(figure) for view, figure in expected.items()
        }
        figures = [figure for figure in expected.values() if figure is not None]
        assert result.means[kind] == (pytest.approx(np.mean(figures)) if figures else None)


def test_the_rule_as_it_is_stated() -> None:
    embeddings, walks = make(6, ["000", "036", "090"], noise=2.0)
    check(embeddings, walks)
    figures = evaluate_casia_b(embeddings, walks).by_view["NM"].values()
    assert len(set(figures)) > 1  # hard enough to tell rules apart
    assert all(0.1 < figure < 0.95 for figure in figures if figure is not None)


def test_sequences_may_come_in_any_order_and_be_missing() -> None:
    embeddings, walks = make(5, ["000", "018", "162", "180"], noise=1.5, seed=1)
    rng = random.Random(1)
    for share in (0.9, 0.5, 0.2):
        order = rng.sample(range(len(walks)), int(share * len(walks)))
        check(embeddings[order], [walks[index] for index in order])


def test_perfect_and_hopeless() -> None:
    embeddings, walks = make(4, ["000", "090"], noise=0.01)
    result = evaluate_casia_b(embeddings, walks)
    assert result.means == {"NM": 1.0, "BG": 1.0, "CL": 1.0}
    assert result.probes == {"NM": 16, "BG": 16, "CL": 16}
    swapped = [
        Walk(f"{(int(w.subject) + 1) % 4:03}", w.condition, w.view) if w.condition > "nm-04" else w
        for w in walks
    ]
    assert evaluate_casia_b(embeddings, swapped).means["NM"] == 0.0


def test_the_identical_view_does_not_count() -> None:
    """Every probe has its exact copy in the gallery, at its own view only; elsewhere it is misled."""
    walks, rows = [], []
    for number, subject in enumerate(["A", "B"]):
        for view, sign in (("000", 1), ("090", -1)):
            for condition in ("nm-01", "nm-05"):
                walks.append(Walk(subject, condition, view))
                rows.append(sign * (10 + number))
    # At 090 all signs are turned: 10 is nearest to -10, which is A's; 11 also to -10, A's.
    result = evaluate_casia_b(np.array(rows, np.float32).reshape(-1, 1, 1), walks)
    assert result.by_view["NM"] == {"000": 0.5, "090": 0.5}


def test_what_is_missing_is_none() -> None:
    embeddings, walks = make(3, ["000", "090", "180"], noise=0.1)
    keep = [
        index
        for index, walk in enumerate(walks)
        if not walk.condition.startswith("cl")
        and (walk.condition, walk.view) not in {("bg-01", "090"), ("bg-02", "090")}
    ]
    result = evaluate_casia_b(embeddings[keep], [walks[index] for index in keep])
    assert result.by_view["CL"] == {"000": None, "090": None, "180": None}
    assert result.means == {"NM": 1.0, "BG": 1.0, "CL": None}
    assert result.by_view["BG"]["090"] is None
    assert result.probes == {"NM": 18, "BG": 12, "CL": 0}


def test_other_conditions_do_not_count() -> None:
    embeddings, walks = make(3, ["000", "090"], noise=1.0)
    stranger = [Walk("000", "nm-07", "000"), Walk("001", "bkgrd", "045")]
    more = np.concatenate([embeddings, embeddings[:2]])
    assert evaluate_casia_b(more, walks + stranger) == evaluate_casia_b(embeddings, walks)


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        (lambda walk: walk.view == "090", "only view 090"),
        (lambda walk: walk.condition not in CONDITIONS[:4], "no gallery"),
        (lambda walk: walk.condition in CONDITIONS[:4], "no probes"),
        (lambda walk: False, "no gallery"),
    ],
)
def test_nothing_to_measure(keep: object, words: str) -> None:
    embeddings, walks = make(2, ["000", "090"], noise=1.0)
    kept = [index for index, walk in enumerate(walks) if keep(walk)]  # type: ignore[operator]
    with pytest.raises(InputError, match=words):
        evaluate_casia_b(embeddings[kept], [walks[index] for index in kept])


def test_as_many_sequences_as_embeddings() -> None:
    embeddings, walks = make(2, ["000", "090"], noise=1.0)
    with pytest.raises(InputError, match="40 embeddings need as many sequences, not 39"):
        evaluate_casia_b(embeddings, walks[:-1])


def test_rank1() -> None:
    between = np.array([[1, 2, 3], [3, 2, 1], [2, 2, 5], [9, 8, 7]], np.float32)
    # Right; wrong; right, for of equal distances the first counts; the subject is not in the gallery.
    assert rank1(between, ["A", "B", "A", "Z"], ["A", "B", "C"]) == 0.5


def test_weights_and_their_bundle_are_judged_alike(tmp_path: Path) -> None:
    """`evaluate` is embedding plus the protocol, whichever file it is given."""
    config = GaitPartConfig(channels=(4, 4, 8), embedding_dim=8)
    weights = random_weights(config, 0)
    save_weights(tmp_path / "small.safetensors", config, weights)
    export(tmp_path / "small.safetensors", tmp_path / "small.gait")
    conditions = ("nm-01", "nm-05", "cl-01")
    views = ("054", "072", "090")
    path = tmp_path / "store"
    synthesise(path, subjects=3, views=views, conditions=conditions, store=True, workers=1)
    store = Store(path)
    with torch.inference_mode():
        model = GaitPart(config).load(weights)
        embeddings = np.stack([model(torch.from_numpy(np.array(walk[None])))[0].numpy() for walk in store])
    expected = evaluate_casia_b(embeddings, store.sequences)
    assert evaluate(tmp_path / "small.safetensors", path) == expected
    assert evaluate(tmp_path / "small.gait", path, engine="onnxruntime") == expected
    two = evaluate(tmp_path / "small.gait", path, views=["054", "090"])
    assert set(two.by_view["NM"]) == {"054", "090"}
    with pytest.raises(InputError, match="no sequence at the views 000"):
        evaluate(tmp_path / "small.gait", path, views=["000"])
