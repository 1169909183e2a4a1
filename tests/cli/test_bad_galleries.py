"""A gallery that cannot be used costs one clear line, exit 1, and nothing else."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Refused, succeed
from damage import a_folder, written


def sql(path: Path, statement: str) -> Path:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()
    return path


GALLERIES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a text": (lambda path: written(path, b"people, people, people" * 100), "no gallery"),
    "half of it": (lambda path: written(path, path.read_bytes()[: path.stat().st_size // 2]), "damaged"),
    "another database": (lambda path: sql(path, "PRAGMA application_id = 7"), "another program's database"),
    "a newer version": (lambda path: sql(path, "PRAGMA user_version = 3"), "of version 3"),
    "no table": (lambda path: sql(path, "DROP TABLE sequences"), "damaged"),
    "a cut embedding": (lambda path: sql(path, "UPDATE sequences SET embedding = x'00'"), "is no embedding"),
    "a folder": (a_folder, "is not a file"),
}


@pytest.mark.parametrize("what", GALLERIES)
def test_a_gallery_that_cannot_be_used(
    what: str, bundle: Path, people: Path, store: Path, tmp_path: Path, refused: Refused
) -> None:
    damage, needle = GALLERIES[what]
    bad = damage(people)
    commands: list[list[object]] = [
        ["identify", bundle, bad, store],
        ["gallery", "export", bad, tmp_path / "p.npz"],
    ]
    if what != "a cut embedding":
        commands += [
            ["enroll", bundle, bad, store],
            ["gallery", "list", bad],
            ["gallery", "list", bad, "--json"],
            ["gallery", "stats", bad, "--json"],
            ["gallery", "remove", bad, "001"],
        ]
    for command in commands:
        refused(command, "people.db", needle)


def test_a_gallery_of_another_model(other_bundle: Path, people: Path, store: Path, refused: Refused) -> None:
    for command in ("enroll", "identify"):
        refused([command, other_bundle, people, store], "people.db", "of model", "enrol again")


def test_no_gallery(bundle: Path, store: Path, tmp_path: Path, refused: Refused) -> None:
    for command in (
        ["list"],
        ["stats"],
        ["stats", "--json"],
        ["export", tmp_path / "people.npz"],
        ["remove", "Ada"],
    ):
        name, *rest = command
        refused(["gallery", name, tmp_path / "none.db", *rest], "no gallery at", "none.db", "enrolling")
    refused(["identify", bundle, tmp_path / "none.db", store], "no gallery at", "none.db")
    refused(["enroll", bundle, tmp_path / "none" / "people.db", store], "no folder")
    (tmp_path / "empty.db").touch()
    refused(["identify", bundle, tmp_path / "empty.db", store], "empty.db is empty", "nobody was enrolled")


def test_an_empty_gallery_identifies_nobody(
    bundle: Path, people: Path, store: Path, refused: Refused
) -> None:
    succeed("gallery", "remove", people, "001")
    succeed("gallery", "remove", people, "002")
    refused(["identify", bundle, people, store], "people.db")


def test_gallery_commands_that_cannot_be(people: Path, tmp_path: Path, refused: Refused) -> None:
    refused(["gallery", "remove", people, "003"], "nobody called '003'", "did you mean")
    refused(["gallery", "export", people, people], "is the gallery itself")
    refused(["gallery", "export", people, tmp_path / "none" / "people.npz"], "none")
    refused(["gallery", "export", people, people / "people.npz"], "Not a directory", "people.db/people.npz; ")
    (tmp_path / "folder.npz").mkdir()
    refused(["gallery", "export", people, tmp_path / "folder.npz"], "folder.npz")
