from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from gaits import draw
from PIL import Image

from gaitedge.errors import InputError, MissingPackage
from gaitedge.evaluation import evaluate_embeddings
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


def test_of_one_subject_there_is_no_impostor_but_a_plot(tmp_path: Path) -> None:
    save_plot(evaluate_embeddings(*draw(1, ["000", "090"], 1.0)), tmp_path / "out.png", "one person")
    assert (tmp_path / "out.png").stat().st_size > 1000


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
