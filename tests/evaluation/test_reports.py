from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gaits import draw

from gaitedge.evaluation import evaluate_embeddings
from gaitedge.evaluation.protocols import CASIA_B, OU_MVLP, PROTOCOLS
from gaitedge.evaluation.published import MISPRINT, PUBLISHED
from gaitedge.evaluation.reports import save_markdown, tables
from gaitedge.evaluation.results import Evaluation


def casia_b(subjects: int = 3, views: tuple[str, ...] = CASIA_B.views) -> Evaluation:
    return evaluate_embeddings(*draw(subjects, views, noise=1.5))


def oumvlp() -> Evaluation:
    """A subject of four has no gallery."""
    embeddings, walks = draw(4, OU_MVLP.views, noise=0.01, conditions=("00", "01"))
    keep = [i for i, walk in enumerate(walks) if (walk.subject, walk.condition) != ("002", "01")]
    return evaluate_embeddings(embeddings[keep], [walks[index] for index in keep])


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_papers_figures_have_the_papers_means(name: str) -> None:
    for published in PUBLISHED[name]:
        assert len(published.by_view) == len(PROTOCOLS[name].views)
        assert np.mean(published.by_view) == pytest.approx(published.mean, abs=0.06)


def test_what_the_paper_misprints_is_said() -> None:
    """With the 94.9 that it prints for BG at 90° the mean would be 92.5, not its 91.5."""
    (row,) = (each for each in PUBLISHED["casia-b"] if (each.method, each.probe_set) == ("GaitPart", "BG"))
    assert row.by_view[5] == 84.9
    assert np.mean([*row.by_view[:5], 94.9, *row.by_view[6:]]) > 92.4
    assert "94.9" in MISPRINT
    assert "84.9" in MISPRINT
    assert MISPRINT in tables(casia_b())[0].notes


def test_the_form_of_table_3() -> None:
    result = casia_b()
    found = tables(result)[0]
    assert found.columns == ["probe", "rank-1 of", "probes", *(f"{18 * i}°" for i in range(11)), "mean"]
    papers = ["GaitPart in the paper, on CASIA-B", "GaitSet in the paper, on CASIA-B"]
    expected = [[name, who] for name in ("NM", "BG", "CL") for who in ("this model", *papers)]
    assert [list(row[:2]) for row in found.rows] == expected
    ours = result.probe_sets["NM"].all_probes
    assert found.rows[0][2] == 66
    assert found.rows[0][3:-1] == [f"{100 * (share or 0):.1f}" for share in ours.by_view.values()]
    assert found.rows[1][3:6] == ["94.1", "98.6", "99.3"]
    assert [row[-1] for row in found.rows[1::3]] == ["96.2", "91.5", "78.7"]


def test_the_papers_figures_need_the_papers_views() -> None:
    found = tables(casia_b(views=CASIA_B.views[:-1]))[0]
    assert {row[1] for row in found.rows} == {"this model"}
    assert found.notes == []


def test_missing_gallery_sequences_give_a_row_of_their_own() -> None:
    embeddings, walks = draw(3, ["000", "090"], noise=0.01)
    keep = [i for i, walk in enumerate(walks) if walk.subject != "001" or walk.condition > "nm-04"
            or walk.condition < "nm"]  # fmt: skip
    found = tables(evaluate_embeddings(embeddings[keep], [walks[index] for index in keep]))[0]
    assert [list(row[:3]) for row in found.rows[:2]] == [
        ["NM", "this model", 12],
        ["NM", "this model, probes with gallery", 8],
    ]
    assert [row[-1] for row in found.rows[:2]] == ["66.7", "100.0"]


def test_the_form_of_table_4() -> None:
    found = tables(oumvlp())[0]
    papers = ["GaitPart in the paper, on OU-MVLP", "GaitSet in the paper, on OU-MVLP"]
    assert found.columns == ["probe", "this model", "this model, probes with gallery", *papers]
    assert [row[0] for row in found.rows] == [*(f"{int(view)}°" for view in OU_MVLP.views), "mean"]
    assert found.rows[0] == ["0°", "75.0", "100.0", "82.6", "79.5"]
    assert found.rows[-1] == ["mean", "75.0", "100.0", "88.7", "87.1"]
    assert found.notes[0].startswith("56 probes, 42 of them with a sequence of their subject in the gallery")
    assert "95.1 on OU-MVLP" in found.notes[1]


def test_the_second_table() -> None:
    result = casia_b(4, ("000", "090"))
    found = tables(result)[1]
    figures = result.probe_sets["CL"]
    assert figures.all_probes.cmc is not None
    assert figures.verification is not None
    row = dict(zip(found.columns, found.rows[2], strict=True))
    assert row["probe"] == "CL"
    assert row["rank 1"] == f"{100 * figures.all_probes.cmc[0]:.1f}"
    assert row["rank 5"] == row["rank 20"] == "100.0"  # of 4 subjects
    assert row["EER"] == f"{100 * figures.verification.eer:.2f}"
    assert row["TAR at 1e-4"] is None  # 192 pairs do not support it
    assert (row["genuine pairs"], row["impostor pairs"]) == (64, 192)


def test_markdown(tmp_path: Path) -> None:
    result = oumvlp()
    save_markdown(result, tmp_path / "out.md", "a|b on c")
    lines = (tmp_path / "out.md").read_text().splitlines()
    assert lines[:3] == [
        "# a|b on c",
        "",
        "OU-MVLP's protocol: 4 subjects, 42 gallery sequences, 56 probes, 14 views.",
    ]
    rows = [line for line in lines if line.startswith("|")]
    first, second = tables(result)
    assert len(rows) == len(first.rows) + len(second.rows) + 4
    assert "| 0° | 75.0 | 100.0 | 82.6 | 79.5 |" in rows
    assert {line.count("|") for line in rows[: len(first.rows) + 2]} == {len(first.columns) + 1}
    assert all(note in lines for note in first.notes)
