from __future__ import annotations

import os
import resource
import shutil
import sys
from pathlib import Path

import pytest
from commands import Refused, apart, contents, in_process, succeed
from PIL import Image
from processes import linux

from gaitedge.data.store import Store, StoreWriter
from gaitedge.evaluation.protocols import CASIA_B


def test_the_tables(bundle: Path, store: Path) -> None:
    out = succeed("eval", bundle, store).stdout
    lines = out.splitlines()
    assert lines[0] == "small.gait on store: 2 subjects, 4 gallery sequences, 4 probes, 2 views"
    assert lines[1].startswith("engine: OpenVINO ")  # by whom it was judged is half of the result
    assert ", fp32, " in lines[1]
    assert "Rank-1 in %, CASIA-B's protocol" in lines[2]
    assert "72°" in out
    assert "EER" in out
    assert "in the paper" not in out  # whose figures are of 11 views


def test_every_output_at_once(weights: Path, store: Path, tmp_path: Path) -> None:
    files = ["--markdown", tmp_path / "out.md", "--plot", tmp_path / "out.png"]
    which = ["--protocol", "casia-b", "--subjects", "1-2", "--views", "072,090", "--engine", "onnxruntime"]
    found = succeed("eval", weights, store, *which, *files, "--json").json
    assert (found["protocol"], found["subjects"], found["views"]) == ("casia-b", 2, ["072", "090"])
    figures = found["probe_sets"]["NM"]
    assert figures["all_probes"]["probes"] == 4
    assert figures["verification"]["genuine"] == 4
    assert found["probe_sets"]["CL"]["verification"] is None
    assert found["engine"].startswith("ONNX Runtime ")
    assert found["paper"] == []  # whose figures are of 11 views
    text = (tmp_path / "out.md").read_text()
    assert text.startswith("# small.safetensors on store\n")
    assert f"Engine: {found['engine']}.\n" in text
    assert f"{100 * figures['all_probes']['mean']:.1f}" in text
    with Image.open(tmp_path / "out.png") as image:
        image.verify()


def test_views_with_blanks_between(bundle: Path, store: Path) -> None:
    assert (
        succeed("eval", bundle, store, "--views", "072, 090").stdout == succeed("eval", bundle, store).stdout
    )


def test_the_papers_figures_stand_in_the_json_too(bundle: Path, store: Path, tmp_path: Path) -> None:
    """Where the views are those of its data set; the same ones as in the table."""
    walks = Store(store)
    with StoreWriter(tmp_path / "views") as writer:
        for condition in ("nm-01", "nm-05"):
            for view in CASIA_B.views:
                writer.append("001", condition, view, walks[walks.find("001/nm-01/072")])
    found = succeed("eval", bundle, tmp_path / "views", "--json").json["paper"]
    means = {(row["method"], row["probe_set"]): row["mean"] for row in found}
    assert means["GaitPart", "NM"] == 96.2
    assert means["GaitPart", "CL"] == 78.7
    assert len(means) == 6
    assert all(len(row["by_view"]) == 11 for row in found)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_engines_of_every_precision_are_judged_by_the_same_command(
    precision: str, store: Path, tmp_path: Path
) -> None:
    box = tmp_path / "box.gait"
    succeed("export", "walkers", box, "--precision", precision)
    found = succeed("eval", box, store, "--json").json
    assert f", {precision}, " in found["engine"]
    assert found["probe_sets"]["NM"]["all_probes"]["mean"] == 1  # two walkers are told apart by either


@pytest.fixture
def oumvlp(store: Path, tmp_path: Path) -> Path:
    """The two walkers as OU-MVLP has them: the second one is not in the gallery, and was asked for as 02."""
    walks = Store(store)
    with StoreWriter(tmp_path / "oumvlp") as writer:
        for who, condition, source in (("1", "01", "nm-01"), ("1", "00", "nm-05"), ("2", "02", "nm-05")):
            for view in ("072", "090"):
                writer.append(f"0000{who}", condition, view, walks[walks.find(f"00{who}/{source}/{view}")])
    return tmp_path / "oumvlp"


def test_a_store_as_of_oumvlp(bundle: Path, oumvlp: Path) -> None:
    lines = succeed("eval", bundle, oumvlp).stdout.splitlines()
    assert lines[0] == "small.gait on oumvlp: 2 subjects, 2 gallery sequences, 4 probes, 2 views"
    assert lines[2] == "Rank-1 in %, OU-MVLP's protocol, gallery 01, identical views excluded"
    assert ["mean", "50.0", "100.0"] in [line.split() for line in lines]
    second = lines.index("Identification by rank, and verification, in %; TAR at a FAR")
    assert lines[second - 1] == ""
    assert lines[second - 2].startswith("4 probes, 2 of them with a sequence of their subject in the gallery")


def test_a_store_with_conditions_of_both_protocols(
    bundle: Path, store: Path, oumvlp: Path, tmp_path: Path, refused: Refused
) -> None:
    with StoreWriter(tmp_path / "both") as writer:
        for walks in (Store(store), Store(oumvlp)):
            for number, walk in enumerate(walks.sequences):
                writer.append(walk.subject, walk.condition, walk.view, walks[number])
    refused(["eval", bundle, tmp_path / "both"], "both protocols, casia-b and oumvlp", "say which one")
    found = {name: succeed("eval", bundle, tmp_path / "both", "--protocol", name, "--json").json["gallery"]
             for name in ("casia-b", "oumvlp")}  # fmt: skip
    assert found == {"casia-b": 4, "oumvlp": 2}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("walks[red]", "walks[red]"),  # no colour
        ("$\\frac$", "$\\frac$"),  # no formula
        ("步态", "步态"),  # not in matplotlib's font
        ("two\nlines", "two\\nlines"),
        pytest.param(os.fsdecode(b"\xff"), "\\udcff", marks=linux),  # no text
    ],
)
def test_any_name_of_a_store(name: str, shown: str, bundle: Path, store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / name)
    files = ["--markdown", tmp_path / "out.md", "--plot", tmp_path / "out.png"]
    out = succeed("eval", bundle, tmp_path / name, *files).stdout
    assert out.startswith(f"small.gait on {shown}: 2 subjects")
    assert (tmp_path / "out.md").read_text().startswith(f"# small.gait on {shown}\n\n")
    assert (tmp_path / "out.png").stat().st_size > 1000


@linux
@pytest.mark.parametrize("option", ["--markdown", "--plot"])
def test_a_full_disk_does_not_cost_the_figures(
    option: str, bundle: Path, store: Path, tmp_path: Path
) -> None:
    """They may have taken hours."""
    path = tmp_path / {"--markdown": "out.md", "--plot": "out.png"}[option]
    path.write_text("of yesterday")
    before = contents(tmp_path)
    done = apart(
        *("eval", bundle, store, option, path, "--json"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
    )
    assert done.status == 1
    assert done.json["probe_sets"]["NM"]["all_probes"]["probes"] == 4
    assert done.stderr.startswith("gaitedge: File too large: ")
    assert str(path) in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert contents(tmp_path) == before


def test_options_that_cannot_be(bundle: Path, store: Path, refused: Refused) -> None:
    refused(["eval", bundle, store, "--protocol", "casia"], "unknown protocol 'casia'", "oumvlp")
    refused(["eval", bundle, store, "--protocol", "oumvlp"], "no gallery for OU-MVLP's protocol", "01")
    refused(["eval", bundle, store, "--subjects", "casia-b/test"], "no subject is in", "2 subjects")
    refused(["eval", bundle, store, "--views", "072,018"], "no sequence at the views 018", "072, 090")
    refused(["eval", bundle, store, "--engine", "abacus"], "unknown engine 'abacus'")


@pytest.mark.parametrize(("option", "suffix"), [("--markdown", ".md"), ("--plot", ".png")])
def test_a_destination_is_checked_before_the_work(
    option: str, suffix: str, tmp_path: Path, refused: Refused
) -> None:
    """The model and the store are not there either, and would be missed only after."""
    work = ["eval", tmp_path / "none.gait", tmp_path / "none", option]
    refused([*work, tmp_path / "none" / f"out{suffix}"], "there is no folder", "none")
    refused([*work, tmp_path / "out.jpg"], f"is not named as a {suffix} file")
    refused([*work, tmp_path / f"{'x' * 240}{suffix}"], "File name too long", "choose a shorter one")
    (tmp_path / f"folder{suffix}").mkdir()
    refused([*work, tmp_path / f"folder{suffix}"], "is a folder")


def test_a_plot_without_matplotlib(
    bundle: Path, store: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refused(["eval", bundle, store, "--plot", tmp_path / "out.png"], "gaitedge[plot]")
    assert in_process("eval", bundle, store).status == 0
