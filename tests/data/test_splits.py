from __future__ import annotations

import pytest

from gaitedge.data.splits import SPLITS, choose_subjects
from gaitedge.errors import InputError

CASIA_B = [f"{number:03d}" for number in range(1, 125)]
OUMVLP = [f"{number:05d}" for number in range(1, 10308)]
WALKERS = [f"{number:03d}" for number in range(1, 251)]


@pytest.mark.parametrize(
    ("split", "subjects", "trained", "tested"),
    [("casia-b", CASIA_B, 74, 50), ("oumvlp", OUMVLP, 5153, 5154), ("walkers", WALKERS, 200, 50)],
)
def test_a_split_has_the_sizes_of_the_paper(
    split: str, subjects: list[str], trained: int, tested: int
) -> None:
    """Sec. 4.1: 74 and 50 subjects of CASIA-B, 5,153 and 5,154 of OU-MVLP."""
    train, test = (choose_subjects(f"{split}/{side}", subjects) for side in ("train", "test"))
    assert (len(train), len(test)) == (trained, tested)
    assert train | test == set(subjects)


def test_casia_b_trains_on_the_first_and_oumvlp_on_the_odd() -> None:
    assert choose_subjects("casia-b/train", CASIA_B) == set(CASIA_B[:74])
    train = choose_subjects("oumvlp/train", OUMVLP)
    assert train == set(OUMVLP[:10305:2])
    assert "10307" in choose_subjects("oumvlp/test", OUMVLP)


def test_subjects_beyond_the_data_set_are_on_neither_side() -> None:
    subjects = ["000", "007", "080", "125", "anna"]
    assert choose_subjects("casia-b/train", subjects) == {"007"}
    assert choose_subjects("casia-b/test", subjects) == {"080"}


def test_a_list_takes_names_and_ranges() -> None:
    subjects = ["001", "002", "010", "011", "anna", "b-2"]
    assert choose_subjects("all", subjects) == set(subjects)
    assert choose_subjects("2-10, anna", subjects) == {"002", "010", "anna"}
    assert choose_subjects("b-2", subjects) == {"b-2"}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("casia-b/valid", "no split 'casia-b/valid'; there are casia-b/train"),
        ("tum/test", "no split 'tum/test'"),
        ("casia-b/test", "no subject is in 'casia-b/test'; there are 2 subjects, 001 to 002"),
        ("5-9", "no subject is in '5-9'"),
        ("otto", "there is no subject 'otto'"),
        ("", "there is no subject ''"),
    ],
)
def test_a_choice_of_nobody_is_refused(choice: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_subjects(choice, ["001", "002"])


def test_every_split_is_explained() -> None:
    for split in SPLITS:
        with pytest.raises(InputError, match=f"{split}/train, .*{split}/test|{split}/train"):
            choose_subjects(f"{split}/none", ["001"])
