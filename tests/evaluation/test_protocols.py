from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from gaits import CONDITIONS, Walk

from gaitedge.data.layouts import find_sequences
from gaitedge.errors import InputError
from gaitedge.evaluation.protocols import CASIA_B, OU_MVLP, choose_protocol, select


def test_the_protocols_are_the_papers() -> None:
    """Sec. 4.1: NM#1-4 against NM#5-6, BG#1-2 and CL#1-2 at 11 views; #01 against #02 at 14 views."""
    assert CASIA_B.gallery == ("nm-01", "nm-02", "nm-03", "nm-04")
    assert CASIA_B.probes == {"NM": ("nm-05", "nm-06"), "BG": ("bg-01", "bg-02"), "CL": ("cl-01", "cl-02")}
    assert [int(view) for view in CASIA_B.views] == [18 * step for step in range(11)]
    assert OU_MVLP.gallery == ("01",)
    assert OU_MVLP.probes == {"NM": ("00", "02")}
    assert [int(view) for view in OU_MVLP.views] == [*range(0, 91, 15), *range(180, 271, 15)]
    with pytest.raises(dataclasses.FrozenInstanceError):
        CASIA_B.gallery = ()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "conditions", "chosen"),
    [
        ("casia-b", ["01"], CASIA_B),
        ("oumvlp", ["nm-01"], OU_MVLP),
        ("auto", CONDITIONS, CASIA_B),
        ("auto", ["cl-02"], CASIA_B),
        ("auto", ["00", "01"], OU_MVLP),
        ("auto", ["02", "01", "other"], OU_MVLP),
    ],
)
def test_a_protocol_is_chosen(name: str, conditions: list[str], chosen: object) -> None:
    assert choose_protocol(name, conditions) is chosen


@pytest.mark.parametrize(
    ("name", "conditions", "words"),
    [
        ("casia", ["nm-01"], "unknown protocol 'casia'; there are casia-b and oumvlp, and auto"),
        ("auto", ["nm-01", "01"], "conditions of both protocols"),
        ("auto", ["nn", "nm"], r"no gallery for either protocol: .*nm-01.*01.*the conditions are nm, nn"),
        ("auto", [], "the conditions are none"),
        ("auto", [f"w{number}" for number in range(10)], "w7, …"),
    ],
)
def test_a_protocol_that_cannot_be_chosen(name: str, conditions: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        choose_protocol(name, conditions)


def test_a_selection() -> None:
    conditions = ["cl-02", "nm-04", "nm-07", "nm-05", "bkgrd"]
    walks = [Walk("001", condition, view) for condition in conditions for view in ("090", "000")]
    chosen = select([*walks, Walk("002", "nm-07", "180")], CASIA_B)
    assert (chosen.gallery, chosen.probes) == ([2, 3], [0, 1, 6, 7])
    assert chosen.sets == ["CL", "CL", "NM", "NM"]
    assert chosen.views == ("000", "090")


@pytest.mark.parametrize("probe", ["00", "02"])
def test_oumvlp_as_it_lies_on_the_disk(probe: str, tmp_path: Path) -> None:
    """The names that its layout gives are those that its protocol takes."""
    for view in OU_MVLP.views:
        for recording in ("01", probe):
            folder = tmp_path / f"Silhouette_{view}-{recording}" / "00002"
            folder.mkdir(parents=True)
            (folder / "0001.png").touch()
    walks = find_sequences(tmp_path, "oumvlp")
    protocol = choose_protocol("auto", (walk.condition for walk in walks))
    assert protocol is OU_MVLP
    chosen = select(walks, protocol)
    assert (len(chosen.gallery), len(chosen.probes), set(chosen.sets)) == (14, 14, {"NM"})
    assert chosen.views == OU_MVLP.views


@pytest.mark.parametrize(
    ("walks", "words"),
    [
        ([], "no gallery for CASIA-B's protocol: there is no nm-01, nm-02, nm-03 or nm-04"),
        ([Walk("1", "nm-05", "000"), Walk("1", "nm-06", "018")], "no gallery"),
        (
            [Walk("1", "nm-01", "000"), Walk("1", "nm-02", "018")],
            "no probes for CASIA-B's .*no nm-05, nm-06,",
        ),
        ([Walk("1", "nm-01", "090"), Walk("1", "bg-02", "090")], "only view 090: .* so needs 2"),
    ],
)
def test_nothing_to_measure(walks: list[Walk], words: str) -> None:
    with pytest.raises(InputError, match=words):
        select(walks, CASIA_B)


def test_nothing_to_measure_of_oumvlp() -> None:
    with pytest.raises(InputError, match=r"no gallery for OU-MVLP's protocol: there is no 01$"):
        select([Walk("1", "00", "000")], OU_MVLP)
    with pytest.raises(InputError, match="there is no 00 or 02"):
        select([Walk("1", "01", "000")], OU_MVLP)
