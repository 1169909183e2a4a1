"""identify and threshold, as a user runs them."""

from __future__ import annotations

from pathlib import Path

from commands import Refused, in_process, succeed
from PIL import Image


def test_identify_says_the_margin(bundle: Path, people: Path, store: Path) -> None:
    done = succeed("identify", bundle, people, f"{store}:001/nm-05/090", "--json")
    (walk,) = done.json
    first, second = walk["identification"]["matches"]
    assert walk["identification"]["margin"] == second["distance"] - first["distance"]
    assert len(first["parts"]) == 4
    text = succeed("identify", bundle, people, f"{store}:001/nm-05/090").stdout
    assert f"margin {walk['identification']['margin']:.4f}, threshold" in text
    assert "margin" in succeed("identify", bundle, people, store).stdout


def test_identify_explains(bundle: Path, people: Path, store: Path, tmp_path: Path, refused: Refused) -> None:
    out = tmp_path / "why.png"
    one = ["identify", bundle, people, f"{store}:001/nm-05/090", "--explain"]
    assert f"wrote {out}" in succeed(*one, out).stdout
    with Image.open(out) as picture:
        assert picture.format == "PNG"
    out.unlink()
    assert succeed(*one, out, "--json").json
    assert out.exists()
    refused([*one, tmp_path / "why.jpg"], "name it", "why.png")
    refused([*one, tmp_path / "none" / "why.png"], "no folder")
    refused(["identify", bundle, people, store, "--explain", out], "of one walk, not of 8")


def test_threshold_sets_the_operating_point(bundle: Path, people: Path, store: Path) -> None:
    few = ["threshold", bundle, people, store, "--allow-few", "--false-accept-rate", "0.25"]
    document = succeed(*few, "--json").json
    assert document["gallery"] == str(people)
    assert document["wished"] == 0.25
    assert document["false_accept_rate"] <= 0.25
    assert document["false_accept_low"] <= document["false_accept_rate"] <= document["false_accept_high"]
    text = succeed(*few).stdout
    assert f"threshold {document['distance']:.4f} set in" in text
    assert "2 of the strangers are enrolled and were left out for their own walks" in text
    (walk,) = succeed("identify", bundle, people, f"{store}:001/nm-05/090", "--json").json
    assert walk["identification"]["threshold"] == document["distance"]


def test_threshold_refuses_what_so_few_people_cannot_support(
    bundle: Path, other_bundle: Path, people: Path, store: Path, tmp_path: Path, refused: Refused
) -> None:
    refused(["threshold", bundle, people, store], "needs walks of 300 people", "of 2", "--allow-few")
    refused(["threshold", bundle, people, store, "--false-accept-rate", "2"], "less than 1, not 2.0")
    refused(["threshold", bundle, people, tmp_path / "none"], "nothing at")
    refused(["threshold", bundle, tmp_path / "none.db", store], "no gallery at")
    refused(["threshold", other_bundle, people, store], "holds embeddings of model")
    assert in_process("threshold", bundle, people, store, "--seed", "-1").status == 2
