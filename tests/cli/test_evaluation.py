from __future__ import annotations

import sys
from pathlib import Path

import pytest
from commands import Refused, in_process, succeed
from PIL import Image


def test_the_tables(bundle: Path, store: Path) -> None:
    out = succeed("eval", bundle, store).stdout
    lines = out.splitlines()
    assert lines[0] == "small.gait on store: 2 subjects, 4 gallery sequences, 4 probes, 2 views"
    assert "Rank-1 in %, CASIA-B's protocol" in lines[1]
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
    text = (tmp_path / "out.md").read_text()
    assert text.startswith("# small.safetensors on store\n")
    assert f"{100 * figures['all_probes']['mean']:.1f}" in text
    with Image.open(tmp_path / "out.png") as image:
        image.verify()


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
    (tmp_path / f"folder{suffix}").mkdir()
    refused([*work, tmp_path / f"folder{suffix}"], "is a folder")


def test_a_plot_without_matplotlib(
    bundle: Path, store: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refused(["eval", bundle, store, "--plot", tmp_path / "out.png"], "gaitedge[plot]")
    assert in_process("eval", bundle, store).status == 0
