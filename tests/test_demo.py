from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import apart

from gaitedge.demo import KNOWN, PROBE_VIEWS, PROBES, STRANGERS, outcomes
from gaitedge.people.identification import Identification, Match
from gaitedge.people.recognizer import Identified


def walk(subject: str, condition: str, nearest: str, *, unknown: bool) -> Identified:
    found = Identification((Match(nearest, 0.5, "nm-01", "018", 1),), unknown, 0.6)
    return Identified("walk", 80, subject, condition, "036", found)


def test_outcomes_count_what_they_say() -> None:
    stranger = f"{KNOWN + 1:03d}"
    rows = {
        row.probe: (row.walks, row.right, row.wrong, row.unknown, row.nearest_right)
        for row in outcomes(
            [
                walk("001", "nm-05", "001", unknown=False),
                walk("001", "nm-05", "002", unknown=False),
                walk("002", "bg-01", "002", unknown=True),
                walk("002", "cl-01", "001", unknown=True),
                walk(stranger, "nm-05", "001", unknown=True),
                walk(stranger, "cl-01", "001", unknown=False),
            ]
        )
    }
    assert rows == {
        "normal walk": (2, 1, 1, 0, 1),
        "with a bag": (1, 0, 0, 1, 1),
        "in a coat": (1, 0, 0, 1, 0),
        "a stranger": (2, 1, 1, 1, None),
    }


@pytest.mark.slow
def test_the_demonstration_goes_the_whole_way(tmp_path: Path) -> None:
    """With the shipped weights: nearly everybody is recognised and nearly no stranger is."""
    done = apart("demo", "--out", tmp_path / "demo", "--json")
    assert (done.status, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert len(found["walks"]) == (KNOWN + STRANGERS) * len(PROBES) * len(PROBE_VIEWS)
    known = [walk for walk in found["walks"] if int(walk["subject"]) <= KNOWN]
    right = [walk["identification"]["matches"][0]["subject"] == walk["subject"] for walk in known]
    strangers = [walk for walk in found["walks"] if int(walk["subject"]) > KNOWN]
    refused = [walk["identification"]["unknown"] for walk in strangers]
    assert sum(right) >= 0.95 * len(right)
    assert sum(refused) >= 0.9 * len(refused)
    assert all(Path(path).exists() for path in found["files"].values())
    assert all(row["end_to_end"]["median_ms"] > 0 for row in found["latency"])
