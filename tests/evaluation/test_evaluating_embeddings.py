from __future__ import annotations

import json
import random

import numpy as np
import pytest
from gaits import Walk, draw
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gaitedge.cli.console import print_json
from gaitedge.errors import InputError
from gaitedge.evaluation import Evaluation, evaluate_embeddings
from gaitedge.evaluation.protocols import PROTOCOLS
from gaitedge.evaluation.results import Accuracy

Array = NDArray[np.float32]


def stated(
    embeddings: Array, walks: list[Walk], protocol: str, probe_set: str, discard: bool = False
) -> dict[str, tuple[float, list[float]] | None]:
    """Sec. 4.1 word by word, in loops: probe view -> rank-1 and CMC, the means over the other views.

    discard: leave out the probes whose subject is not in the pair's gallery.
    """
    rules = PROTOCOLS[protocol]
    pairs = list(zip(embeddings.astype(np.float64), walks, strict=True))
    used = [
        w for w in walks if w.condition in (*rules.gallery, *(c for cs in rules.probes.values() for c in cs))
    ]
    views = sorted({walk.view for walk in used})
    result: dict[str, tuple[float, list[float]] | None] = {}
    for probe_view in views:
        curves = []
        for gallery_view in views:
            gallery = [(e, w) for e, w in pairs if w.condition in rules.gallery and w.view == gallery_view]
            probes = [
                (e, w) for e, w in pairs if w.condition in rules.probes[probe_set] and w.view == probe_view
            ]
            if discard:
                enrolled = {known.subject for _, known in gallery}
                probes = [(e, w) for e, w in probes if w.subject in enrolled]
            if gallery_view == probe_view or not gallery or not probes:
                continue
            hits = np.zeros(20)
            for probe, walk in probes:
                nearest: dict[str, tuple[float, int]] = {}  # of equal distances the first in the gallery
                for column, (known, of) in enumerate(gallery):
                    parts = [np.sqrt(((a - b) ** 2).sum()) for a, b in zip(probe, known, strict=True)]
                    distance = float(np.float32(np.mean(parts)))
                    nearest[of.subject] = min(nearest.get(of.subject, (np.inf, 0)), (distance, column))
                order = sorted(nearest, key=nearest.__getitem__)
                if walk.subject in order[:20]:
                    hits[order.index(walk.subject) :] += 1
            curves.append(hits / len(probes))
        curve = np.mean(curves, axis=0).tolist() if curves else None
        result[probe_view] = curve and (curve[0], curve)
    return result


def check(embeddings: Array, walks: list[Walk], protocol: str = "casia-b") -> Evaluation:
    result = evaluate_embeddings(embeddings, walks, protocol)
    for name, figures in result.probe_sets.items():
        for found, discard in ((figures.all_probes, False), (figures.with_gallery, True)):
            expected = stated(embeddings, walks, protocol, name, discard)
            assert list(found.by_view) == list(expected) == list(result.views)
            assert found.by_view == {
                view: None if figure is None else pytest.approx(figure[0])
                for view, figure in expected.items()
            }
            there = [figure for figure in expected.values() if figure is not None]
            if there:
                assert found.mean == pytest.approx(np.mean([rank1 for rank1, _ in there]))
                assert found.cmc == pytest.approx(np.mean([curve for _, curve in there], axis=0))
                assert found.cmc[0] == found.mean
            else:
                assert found == Accuracy(dict.fromkeys(result.views), None, None, 0)
    return result


def test_the_rule_as_it_is_stated() -> None:
    embeddings, walks = draw(6, ["000", "036", "090"], noise=2.0)
    result = check(embeddings, walks)
    assert (result.protocol, result.subjects, result.gallery, result.probes) == ("casia-b", 6, 72, 108)
    figures = result.probe_sets["NM"].all_probes
    assert len(set(figures.by_view.values())) > 1  # hard enough to tell rules apart
    assert all(0.1 < figure < 0.95 for figure in figures.by_view.values() if figure is not None)
    assert figures.cmc is not None
    assert figures.cmc[0] < figures.cmc[1] < figures.cmc[5] == 1


def test_opengaits_rule() -> None:
    """OpenGait's: accuracies of all pairs of views as one matrix, its diagonal left out, then means.

    Its distance is the mean over the parts of the Euclidean distance.
    """
    views = [f"{angle:03d}" for angle in range(0, 181, 18)]
    embeddings, walks = draw(12, views, noise=2.5, seed=3)
    subjects, conditions, angles = (
        np.array([getattr(walk, name) for walk in walks]) for name in ("subject", "condition", "view")
    )
    result = evaluate_embeddings(embeddings, walks, "casia-b")
    for name, kinds in {"NM": "nm-05 nm-06", "BG": "bg-01 bg-02", "CL": "cl-01 cl-02"}.items():
        accuracy = np.zeros((11, 11))
        for row, probe_view in enumerate(views):
            for column, gallery_view in enumerate(views):
                known = np.isin(conditions, ["nm-01", "nm-02", "nm-03", "nm-04"]) & (angles == gallery_view)
                asked = np.isin(conditions, kinds.split()) & (angles == probe_view)
                between = (
                    sum(
                        np.linalg.norm(
                            embeddings[asked][:, None, part] - embeddings[known][None, :, part], axis=2
                        )
                        for part in range(4)
                    )
                    / 4
                )
                nearest = subjects[known][np.argsort(between, axis=1)[:, 0]]
                accuracy[row, column] = np.mean(nearest == subjects[asked])
        without_diagonal = (accuracy.sum(axis=1) - accuracy.diagonal()) / 10
        figures = result.probe_sets[name].all_probes
        assert list(figures.by_view.values()) == pytest.approx(without_diagonal)
        assert figures.mean == pytest.approx(without_diagonal.mean())
        assert 0.2 < without_diagonal.mean() < 0.9


@st.composite
def recorded(draw: st.DrawFn) -> tuple[Array, list[Walk], str]:
    """A few walks, any of which may be missing; embeddings of small whole numbers, many of them equal."""
    protocol = draw(st.sampled_from(sorted(PROTOCOLS)))
    conditions = {"casia-b": ("nm-01", "nm-03", "nm-05", "bg-01"), "oumvlp": ("01", "02")}[protocol]
    every = [Walk(who, what, view) for who in "ABC" for what in conditions for view in ("000", "090", "180")]
    walks = draw(st.lists(st.sampled_from(every), unique=True, min_size=2, max_size=20))
    values = draw(st.lists(st.integers(-1, 1), min_size=2 * len(walks), max_size=2 * len(walks)))
    return np.array(values, np.float32).reshape(-1, 2, 1), walks, protocol


@given(recorded())
def test_subjects_without_a_gallery_single_views_and_ties(recording: tuple[Array, list[Walk], str]) -> None:
    embeddings, walks, protocol = recording
    try:
        check(embeddings, walks, protocol)
    except InputError as error:
        kinds = {walk.condition for walk in walks}
        views = {walk.view for walk in walks}
        missing = kinds.isdisjoint(PROTOCOLS[protocol].gallery) or kinds <= {*PROTOCOLS[protocol].gallery}
        assert missing or len(views) == 1, error  # noqa: PT017


def test_sequences_may_come_in_any_order_and_be_missing() -> None:
    embeddings, walks = draw(5, ["000", "018", "162", "180"], noise=1.5, seed=1)
    rng = random.Random(1)
    for share in (0.9, 0.3):
        order = rng.sample(range(len(walks)), int(share * len(walks)))
        check(embeddings[order], [walks[index] for index in order])


def test_perfect_and_hopeless() -> None:
    embeddings, walks = draw(4, ["000", "090"], noise=0.01)
    result = evaluate_embeddings(embeddings, walks)
    for figures in result.probe_sets.values():
        assert figures.all_probes.mean == 1
        assert figures.all_probes.probes == 16
        assert figures.verification is not None
        assert figures.verification.eer == 0
        assert (figures.verification.genuine, figures.verification.impostor) == (64, 192)
    swapped = [
        Walk(f"{(int(w.subject) + 1) % 4:03}", w.condition, w.view) if w.condition > "nm-04" else w
        for w in walks
    ]
    assert evaluate_embeddings(embeddings, swapped).probe_sets["NM"].all_probes.mean == 0


def test_the_identical_view_does_not_count() -> None:
    """Every probe has its exact copy in the gallery, at its own view only; elsewhere it is misled."""
    walks, rows = [], []
    for number, subject in enumerate(["A", "B"]):
        for view, sign in (("000", 1), ("090", -1)):
            for condition in ("nm-01", "nm-05"):
                walks.append(Walk(subject, condition, view))
                rows.append(sign * (10 + number))
    # At 090 all signs are turned: 10 is nearest to -10, which is A's; 11 also to -10, A's.
    result = evaluate_embeddings(np.array(rows, np.float32).reshape(-1, 1, 1), walks)
    figures = result.probe_sets["NM"]
    assert figures.all_probes.by_view == {"000": 0.5, "090": 0.5}
    assert figures.verification is not None
    assert sum(figures.verification.histogram.genuine) == 4
    assert figures.verification.histogram.genuine[0] == 0  # no pair at distance 0


def test_what_is_missing_is_none() -> None:
    embeddings, walks = draw(3, ["000", "090", "180"], noise=0.1)
    keep = [
        index
        for index, walk in enumerate(walks)
        if not walk.condition.startswith("cl")
        and (walk.condition, walk.view) not in {("bg-01", "090"), ("bg-02", "090")}
    ]
    sets = evaluate_embeddings(embeddings[keep], [walks[index] for index in keep]).probe_sets
    assert sets["CL"].all_probes == Accuracy({"000": None, "090": None, "180": None}, None, None, 0)
    assert sets["CL"].verification is None
    assert [sets[name].all_probes.mean for name in ("NM", "BG")] == [1, 1]
    assert sets["BG"].all_probes.by_view["090"] is None
    assert [figures.all_probes.probes for figures in sets.values()] == [18, 12, 0]


def test_oumvlp_with_and_without_probes_that_have_no_gallery() -> None:
    """Perfect embeddings; a fifth of the gallery is missing, as of the real set."""
    views = ("000", "015", "090", "270")
    embeddings, walks = draw(10, views, noise=0.01, conditions=("00", "01"))
    gone = {("001", view) for view in views} | {
        ("002", "000"),
        ("003", "015"),
        ("003", "090"),
        ("003", "270"),
    }
    keep = [
        i for i, walk in enumerate(walks) if walk.condition == "00" or (walk.subject, walk.view) not in gone
    ]
    result = check(embeddings[keep], [walks[index] for index in keep], "oumvlp")
    figures = result.probe_sets["NM"]
    assert (result.gallery, result.probes, result.subjects) == (32, 40, 10)
    # At 000 there are 8 of 10 subjects, at each other view 8.
    assert figures.all_probes.mean == pytest.approx(0.8)
    assert figures.with_gallery.mean == 1
    # 001 is nowhere; of 003 the only gallery is 000, which says nothing of its probe at 000.
    assert (figures.all_probes.probes, figures.with_gallery.probes) == (40, 35)


def test_other_conditions_do_not_count() -> None:
    embeddings, walks = draw(3, ["000", "090"], noise=1.0)
    stranger = [Walk("000", "nm-07", "000"), Walk("001", "bkgrd", "045")]
    more = np.concatenate([embeddings, np.full_like(embeddings[:2], np.nan)])
    assert evaluate_embeddings(more, walks + stranger) == evaluate_embeddings(embeddings, walks)


def test_verification_by_all_pairs_of_different_views() -> None:
    embeddings, walks = draw(5, ["000", "090", "180"], noise=1.5)
    found = evaluate_embeddings(embeddings, walks).probe_sets["BG"].verification
    assert found is not None
    genuine, impostor = [], []
    for probe, asked in zip(embeddings, walks, strict=True):
        for known, of in zip(embeddings, walks, strict=True):
            compared = (
                asked.condition in ("bg-01", "bg-02") and of.condition < "nm-05" and of.condition > "nm"
            )
            if compared and asked.view != of.view:
                distance = np.linalg.norm((probe - known).astype(np.float64), axis=1).mean()
                (genuine if asked.subject == of.subject else impostor).append(distance)
    assert (found.genuine, found.impostor) == (len(genuine), len(impostor)) == (240, 960)
    for point in found.roc:
        assert point.tar == pytest.approx(np.mean(np.array(genuine) < point.threshold), abs=1e-9)
        assert point.far == pytest.approx(np.mean(np.array(impostor) < point.threshold), abs=1e-9)
    assert found.eer == pytest.approx(
        (np.mean(np.array(impostor) < found.threshold) + np.mean(np.array(genuine) >= found.threshold)) / 2
    )
    assert 0.05 < found.eer < 0.5
    assert found.resolution < 1e-4


def test_embeddings_that_cannot_be() -> None:
    embeddings, walks = draw(2, ["000", "090"], noise=1.0)
    with pytest.raises(InputError, match="40 embeddings need as many sequences, not 39"):
        evaluate_embeddings(embeddings, walks[:-1])
    with pytest.raises(InputError, match=r"\[count, parts, dim\], not \[40, 32\]"):
        evaluate_embeddings(embeddings.reshape(40, 32), walks)
    for value in (np.nan, np.inf):
        broken = embeddings.copy()
        broken[23, 1, 2] = value
        with pytest.raises(InputError, match="the embedding of 001/nm-02/090 holds NaN or infinite values"):
            evaluate_embeddings(broken, walks)
    with pytest.raises(InputError, match="unknown protocol 'gait3d'"):
        evaluate_embeddings(embeddings, walks, "gait3d")


def test_it_prints_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    result = evaluate_embeddings(*draw(3, ["000", "090"], noise=1.0))
    print_json(result)
    printed = json.loads(capsys.readouterr().out)
    figures = result.probe_sets["BG"]
    assert printed["probe_sets"]["BG"]["all_probes"]["mean"] == figures.all_probes.mean
    assert printed["probe_sets"]["BG"]["with_gallery"]["by_view"] == figures.with_gallery.by_view
    assert figures.verification is not None
    assert (
        printed["probe_sets"]["BG"]["verification"]["roc"][0]["threshold"]
        == figures.verification.roc[0].threshold
    )
