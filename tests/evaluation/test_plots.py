from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gaits import draw
from PIL import Image

from gaitedge.errors import InputError, MissingPackage
from gaitedge.evaluation import Evaluation, evaluate_embeddings
from gaitedge.evaluation.plots import check_plot, save_plot

pytest.importorskip("matplotlib")


@pytest.mark.parametrize(
    ("conditions", "shape"),
    [
        (["nm-01", "nm-05", "bg-01", "cl-01"], (1050, 1890)),
        (["01", "00"], (1050, 1350)),
        (["nm-01", "cl-02"], (1050, 1350)),
    ],
)
def test_a_plot_is_a_picture_of_every_probe_set(
    conditions: list[str], shape: tuple[int, int], tmp_path: Path
) -> None:
    result = evaluate_embeddings(*draw(6, ["000", "090", "180"], 1.0, conditions))
    save_plot(result, tmp_path / "out.png", "small on drawn")
    with Image.open(tmp_path / "out.png") as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[:2] == shape
    green, violet = ((pixels == colour).all(axis=2).sum() for colour in ((27, 120, 55), (118, 42, 131)))
    assert min(green, violet) > 200  # outlines of genuine and impostor distances


def drawn(result: Evaluation, path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What save_plot draws: title of the panel -> its axes."""
    from matplotlib.figure import Figure

    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **options: [save(self, *args, **options), figures.append(self)]
    )
    save_plot(result, path, "small on drawn")
    return {axis.get_title(): axis for axis in figures[0].axes}


def test_of_one_subject_there_is_no_impostor_but_a_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = evaluate_embeddings(*draw(1, ["000", "090"], 1.0))
    assert [*drawn(result, tmp_path / "out.png", monkeypatch)] == ["CMC, mean over pairs of views"]


@pytest.mark.parametrize("noise", [0.1, 0.5, 3.0])
def test_no_mark_is_above_100_percent(noise: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = evaluate_embeddings(*draw(6, ["000", "090"], noise))
    axes = drawn(result, tmp_path / "out.png", monkeypatch)
    for title in ("ROC", "CMC, mean over pairs of views"):
        low, high = axes[title].get_ylim()
        marks = [mark for mark in axes[title].get_yticks() if low <= mark <= high]
        assert max(marks) == pytest.approx(100)


def test_the_legend_covers_no_distances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for views in (["000", "090"], ["000", "090", "180"]):
        result = evaluate_embeddings(*draw(4, views, 0.3))
        axes = drawn(result, tmp_path / "out.png", monkeypatch)
        for axis in list(axes.values())[:3]:
            box = axis.transData.inverted().transform(axis.get_legend().get_window_extent())
            assert box[:, 1].min() > max(patch.get_data().values.max() for patch in axis.patches)


def test_it_leaves_matplotlibs_global_state_alone(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        from gaits import draw
        from gaitedge.evaluation import evaluate_embeddings
        from gaitedge.evaluation.plots import save_plot
        assert "matplotlib" not in sys.modules
        save_plot(evaluate_embeddings(*draw(2, ["000", "090"], 1.0)), Path(sys.argv[1]), "two people")
        assert "matplotlib.pyplot" not in sys.modules
    """
    arguments = [str(tmp_path / "out.png"), str(Path(__file__).parents[1])]
    subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments], check=True)


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackage, match=r"a plot needs matplotlib.*pip install 'gaitedge\[plot\]'"):
        check_plot(tmp_path / "out.png")


def test_a_plot_is_a_png(tmp_path: Path) -> None:
    assert check_plot(tmp_path / "out.png") == tmp_path / "out.png"
    with pytest.raises(InputError, match=r"out\.jpg is not named as a \.png file"):
        check_plot(tmp_path / "out.jpg")
