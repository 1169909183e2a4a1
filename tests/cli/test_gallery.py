"""The commands of `gaitedge gallery`, as a user runs them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import Refused, contents, in_process, succeed

from gaitedge.people.encryption import ENVIRONMENT
from gaitedge.people.gallery import Gallery


@pytest.fixture
def key(tmp_path: Path) -> Path:
    pytest.importorskip("cryptography", reason="needs cryptography")
    assert str(tmp_path / "key") in succeed("gallery", "key", tmp_path / "key").stdout
    return tmp_path / "key"


def test_removal_is_told_with_the_number_that_stays(people: Path) -> None:
    done = succeed("gallery", "remove", people, "002", "--json")
    assert done.json == {"subject": "002", "number": 2, "removed": 2, "swept": True}
    assert "removed 001 with 2 walks" in succeed("gallery", "remove", people, "001").stdout
    lines = succeed("gallery", "audit", people, "--json").json
    assert [(line["action"], line["subject"], line["name"]) for line in lines[-2:]] == [
        ("remove", 2, None),
        ("remove", 1, None),
    ]
    shown = succeed("gallery", "audit", people).stdout
    assert "threshold" in shown
    assert shown.count("remove") == 2


def test_expiry_by_age(people: Path) -> None:
    with Gallery.open(people) as gallery:
        gallery._db.execute("UPDATE sequences SET enrolled_at = '2020-01-01T00:00:00+00:00' WHERE id = 1")
    dry = succeed("gallery", "expire", people, "--older-than", "90d", "--dry-run", "--json").json
    assert (dry["dry_run"], dry["expired"], dry["swept"]) == (True, {"001": 1}, True)
    shown = succeed("gallery", "expire", people, "--older-than", "2020-01-02", "--dry-run").stdout
    assert "would remove 1 walk enrolled before 2020-01-02T00:00:00+00:00" in shown
    assert succeed("gallery", "list", people, "--json").json == {"001": 2, "002": 2}
    assert (
        "removed 1 walk enrolled before" in succeed("gallery", "expire", people, "--older-than", "12w").stdout
    )
    assert succeed("gallery", "list", people, "--json").json == {"001": 1, "002": 2}
    assert succeed("gallery", "expire", people, "--older-than", "6m", "--json").json["expired"] == {}


def test_export_and_import(
    people: Path, tmp_path: Path, other_bundle: Path, store: Path, refused: Refused
) -> None:
    out = tmp_path / "people.npz"
    succeed("gallery", "export", people, out)
    assert succeed("gallery", "import", tmp_path / "new.db", out, "--json").json == {"added": 4, "skipped": 0}
    assert "imported 0 walks" in succeed("gallery", "import", tmp_path / "new.db", out).stdout
    before = succeed("gallery", "stats", people, "--json").json
    after = succeed("gallery", "stats", tmp_path / "new.db", "--json").json
    different = {"created", "size"}
    assert {name: before[name] for name in before.keys() - different} == {
        name: after[name] for name in after.keys() - different
    }
    succeed("enroll", other_bundle, tmp_path / "other.db", f"{store}:001/nm-01")
    refused(["gallery", "import", tmp_path / "other.db", out], "other.db holds embeddings of model")
    data = bytearray(out.read_bytes())
    data[len(data) // 3] ^= 1
    out.write_bytes(data)
    refused(["gallery", "import", people, out], "people.npz is damaged")
    refused(["gallery", "import", people, tmp_path / "none.npz"], "none.npz is not a file")


def test_an_encrypted_gallery(
    people: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    other = tmp_path / "other"
    succeed("gallery", "key", other)
    with Gallery.open(people) as gallery:
        before = gallery.embeddings()[0]
    refused(["gallery", "encrypt", people], "needs a key: gaitedge gallery key FILE makes one")
    refused(["gallery", "decrypt", people], "people.db is not encrypted")
    refused(["gallery", "encrypt", people, "--key-file", tmp_path / "none"], "none")
    done = succeed("gallery", "encrypt", people, "--key-file", key, "--json").json
    assert done == {"gallery": str(people), "done": "encrypted", "swept": True}
    assert before[0].tobytes() not in people.read_bytes()
    refused(["gallery", "encrypt", people, "--key-file", key], "is encrypted already")
    refused(["gallery", "decrypt", people], "is encrypted: give its key with --key-file FILE or in")
    refused(["gallery", "decrypt", people, "--key-file", other], "is encrypted with another key")
    refused(["gallery", "decrypt", people, "--key-file", people], "people.db holds no key")
    refused(["gallery", "export", people, tmp_path / "x.npz", "--key-file", key], "say --plain")
    refused(["gallery", "export", people, tmp_path / "x.npz", "--plain"], "give its key")
    assert "encrypted" in succeed("gallery", "stats", people).stdout
    assert succeed("gallery", "list", people, "--json").json == {"001": 2, "002": 2}  # needs no key
    monkeypatch.setenv(ENVIRONMENT, key.read_text())
    succeed("gallery", "export", people, tmp_path / "x.npz", "--plain")
    succeed("gallery", "import", people, tmp_path / "x.npz")
    assert f"decrypted {people}" in succeed("gallery", "decrypt", people).stdout
    with Gallery.open(people) as gallery:
        assert np.array_equal(gallery.embeddings()[0], before)
    monkeypatch.setenv(ENVIRONMENT, "no key")
    refused(["gallery", "encrypt", people], f"${ENVIRONMENT} holds no key")


@pytest.mark.skipif(sys.platform == "win32", reason="permissions as POSIX knows them")
def test_what_is_made_is_for_its_owner_alone(bundle: Path, store: Path, key: Path, tmp_path: Path) -> None:
    for umask in (0, 0o077):
        before = os.umask(umask)
        try:
            path = tmp_path / f"new{umask}.db"
            succeed("enroll", bundle, path, f"{store}:001/nm-01")
            with Gallery.open(path) as gallery:
                gallery.threshold = 1.0
                modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.glob("new*")}
        finally:
            os.umask(before)
        assert modes == {path.name: 0o600, f"{path.name}-wal": 0o600, f"{path.name}-shm": 0o600}
        path.unlink()
    assert key.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(sys.platform == "win32", reason="permissions as POSIX knows them")
def test_a_key_that_others_may_read_costs_one_line(
    people: Path, key: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key.chmod(0o644)
    assert in_process("gallery", "encrypt", people, "--key-file", key).status == 0
    assert [record.getMessage() for record in caplog.records] == [
        f"gaitedge: others may use the key in {key} (mode 644); run: chmod 600 {key}"
    ]


def test_a_key_is_not_overwritten(key: Path, tmp_path: Path, refused: Refused) -> None:
    before = contents(tmp_path)
    refused(["gallery", "key", key], "exists already; galleries may need the key in it")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("age", ["soon", "0d", "2999-01-01"])
def test_an_age_that_is_none(age: str, people: Path, refused: Refused) -> None:
    refused(["gallery", "expire", people, "--older-than", age], age)


def test_no_gallery_for_the_new_commands(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "none.db"
    for command in (
        ["audit", path],
        ["expire", path, "--older-than", "1d"],
        ["decrypt", path],
    ):
        refused(["gallery", *command], "no gallery at", "none.db")
