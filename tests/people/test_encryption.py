from __future__ import annotations

import base64
import contextlib
import logging
import os
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gaitedge.errors import GalleryError, InputError, MissingPackage
from gaitedge.people.encryption import ENVIRONMENT, Cipher, NotAuthentic, find_key, make_key
from gaitedge.people.gallery import Enrolment, Gallery

pytest.importorskip("cryptography", reason="needs cryptography")

MODEL, OTHER = "ab" * 32, "cd" * 32
KEY, WRONG = bytes(range(32)), bytes(32)


def walk(value: float) -> NDArray[np.float32]:
    return np.full((4, 8), value, np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Gallery.create(tmp_path / "people", MODEL, 4, 8, KEY) as gallery:
        gallery.enroll_many([Enrolment("Ada", walk(1)), Enrolment("Bob", walk(2)), Enrolment("Ada", walk(3))])
    return tmp_path / "people"


def values(path: Path, key: bytes | None) -> list[float]:
    with Gallery.open(path, MODEL, key) as gallery:
        return [float(embedding[0, 0]) for embedding in gallery.embeddings()[0]]


def sql(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_a_sealed_text_opens_in_its_place_only() -> None:
    cipher = Cipher(KEY, MODEL)
    sealed = cipher.seal(b"embedding", 7, "Ada")
    assert b"embedding" not in sealed
    assert len(sealed) == 12 + 9 + 16
    assert cipher.unseal(sealed, 7, "Ada") == b"embedding"
    assert cipher.seal(b"embedding", 7, "Ada")[:12] != sealed[:12]  # a nonce is used once
    for other, sequence, subject in (
        (cipher, 8, "Ada"),
        (cipher, 7, "Bob"),
        (Cipher(KEY, OTHER), 7, "Ada"),
        (Cipher(WRONG, MODEL), 7, "Ada"),
    ):
        with pytest.raises(NotAuthentic):
            other.unseal(sealed, sequence, subject)
    for number in range(len(sealed)):
        altered = bytearray(sealed)
        altered[number] ^= 1
        with pytest.raises(NotAuthentic):
            cipher.unseal(bytes(altered), 7, "Ada")
        with pytest.raises(NotAuthentic):
            cipher.unseal(sealed[:number], 7, "Ada")


def test_it_is_the_published_aes_gcm() -> None:
    """Test case 14 of McGrew and Viega's specification of GCM: the key, the nonce and the text are zeros."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    expected = "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"
    assert AESGCM(bytes(32)).encrypt(bytes(12), bytes(16), None).hex() == expected
    sealed = bytes(12) + bytes.fromhex(expected)
    cipher = Cipher(bytes(32), MODEL)
    cipher._belonging = lambda sequence, subject: b""  # type: ignore[method-assign]
    assert cipher.unseal(sealed, 1, "") == bytes(16)


def test_an_encrypted_gallery_gives_what_was_enrolled_and_keeps_no_plain_byte(path: Path) -> None:
    with Gallery.open(path, MODEL, KEY) as gallery:
        gallery.enroll("Eve", walk(4))
        assert gallery.encrypted
        assert gallery.stats().encrypted
        log = path.with_name("people-wal").read_bytes()
    assert values(path, KEY) == [1, 2, 3, 4]
    content = path.read_bytes() + log
    assert not any(walk(number).tobytes()[:16] in content for number in range(1, 5))
    assert b"Ada" in content  # as the documentation says


@pytest.mark.parametrize("fingerprint", [None, MODEL])
def test_a_wrong_key_is_told_at_once(path: Path, fingerprint: str | None) -> None:
    with pytest.raises(GalleryError, match="is encrypted with another key") as caught:
        Gallery.open(path, fingerprint, WRONG)
    assert str(path) in str(caught.value)
    with pytest.raises(InputError, match="a gallery's key is 32 bytes"):
        Gallery.open(path, fingerprint, KEY[:16])


def test_what_can_be_done_without_the_key(path: Path, tmp_path: Path) -> None:
    with pytest.raises(
        GalleryError, match=f"is encrypted: give its key with --key-file FILE or in {ENVIRONMENT}"
    ):
        Gallery.open(path, MODEL)
    with Gallery.open(path) as gallery:
        for refused in (
            gallery.embeddings,
            lambda: gallery.enroll("Eve", walk(4)),
            lambda: gallery.export(tmp_path / "people.npz", plain=True),
            gallery.decrypt,
        ):
            with pytest.raises(GalleryError, match="is encrypted: give its key"):
                refused()
        assert gallery.subjects() == {"Ada": 2, "Bob": 1}
        assert gallery.remove("Bob") == 1
        assert len(gallery.records()) == gallery.stats().sequences == 2
    assert values(path, KEY) == [1, 3]
    assert not (tmp_path / "people.npz").exists()


def test_a_key_for_a_plain_gallery_is_refused_and_not_ignored(tmp_path: Path) -> None:
    Gallery.create(tmp_path / "plain", MODEL, 4, 8).close()
    for attempt in (Gallery.open, lambda *a: Gallery.open_or_create(a[0], MODEL, 4, 8, KEY)):
        with pytest.raises(GalleryError, match="is not encrypted, but a key was given"):
            attempt(tmp_path / "plain", MODEL, KEY)


SWAP = "UPDATE sequences SET embedding = (SELECT embedding FROM sequences WHERE id = {0}) WHERE id = {1}"


@pytest.mark.parametrize(
    ("statements", "number"),
    [
        ([SWAP.format(2, 1)], 1),  # another person's
        ([SWAP.format(1, 3)], 3),  # another walk of the same person
        (["UPDATE sequences SET subject = 2 WHERE id = 3"], 3),
        (["UPDATE subjects SET name = 'Eve' WHERE name = 'Bob'"], 2),
        (["UPDATE sequences SET id = 9 WHERE id = 3"], 9),
        (["UPDATE sequences SET embedding = substr(embedding, 2) WHERE id = 2"], 2),
        (["UPDATE sequences SET embedding = x'' WHERE id = 2"], 2),
    ],
)
def test_an_embedding_in_another_place_is_found(path: Path, statements: list[str], number: int) -> None:
    sql(path, *statements)
    with pytest.raises(GalleryError, match=f"sequence {number} was altered or put in another one's place"):
        values(path, KEY)


def test_another_model_s_embeddings_do_not_become_this_one_s(path: Path) -> None:
    sql(path, "UPDATE meta SET value = replace(value, 'ab', 'cd') WHERE key = 'fingerprint'")
    with pytest.raises(GalleryError, match="another key"):
        Gallery.open(path, OTHER, KEY)


def test_encrypting_and_decrypting_keep_everything(path: Path) -> None:
    with Gallery.open(path, key=KEY) as gallery:
        records = gallery.records()
        gallery.decrypt()
        assert not gallery.encrypted
        gallery.enroll("Eve", walk(4))
        assert walk(1).tobytes() in path.read_bytes()
        with pytest.raises(GalleryError, match="is not encrypted"):
            gallery.decrypt()
        gallery.encrypt(WRONG)
        assert gallery.swept
        content = path.read_bytes() + path.with_name("people-wal").read_bytes()
        assert not any(walk(number).tobytes()[:16] in content for number in range(1, 5))
        with pytest.raises(GalleryError, match="is encrypted already"):
            gallery.encrypt(KEY)
        gallery.enroll("Eve", walk(5))
        assert gallery.records()[:3] == records
    assert values(path, WRONG) == [1, 2, 3, 4, 5]


def test_who_has_it_open_learns_that_it_was_encrypted(path: Path) -> None:
    with Gallery.open(path, key=KEY) as one, Gallery.open(path, key=KEY) as two:
        one.decrypt()
        with pytest.raises(GalleryError, match="is not encrypted, but a key was given"):
            two.enroll("Eve", walk(4))
        one.encrypt(WRONG)
        for refused in (two.embeddings, lambda: two.enroll("Eve", walk(4))):
            with pytest.raises(GalleryError, match="another key"):
                refused()
    assert values(path, WRONG) == [1, 2, 3]


def test_one_damaged_embedding_keeps_all_as_they_were(path: Path) -> None:
    sql(path, SWAP.format(2, 3))
    with Gallery.open(path, key=KEY) as gallery:
        with pytest.raises(GalleryError, match="sequence 3 was altered"):
            gallery.decrypt()
        assert gallery.encrypted
        assert [line.action for line in gallery.audit()][-1] == "enroll"


def test_a_key_is_made_once_and_found_in_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    before = os.umask(0)
    try:
        make_key(tmp_path / "key")
        make_key(tmp_path / "other")
    finally:
        os.umask(before)
    key = find_key(tmp_path / "key")
    assert key is not None
    assert len(key) == 32
    assert key != find_key(tmp_path / "other")
    assert sys.platform == "win32" or (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match="exists already"):
        make_key(tmp_path / "key")
    assert find_key(tmp_path / "key") == key
    assert find_key(None) is None
    monkeypatch.setenv(ENVIRONMENT, base64.b64encode(KEY).decode())
    assert find_key(None) == KEY
    assert find_key(tmp_path / "key") == key  # the file comes first


@pytest.mark.parametrize(
    "text", [KEY.hex(), KEY.hex().upper() + "\n", base64.b64encode(KEY).decode() + "\r\n"]
)
def test_how_a_key_is_written(text: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(text)
    (tmp_path / "key").chmod(0o600)
    assert find_key(tmp_path / "key") == KEY


@pytest.mark.parametrize(
    "text", ["", "hunter2", "ab" * 31, "zz" * 32, "é" * 64, "ab" * 33, "A" * 5000, "\0\xff"]
)
def test_what_is_no_key(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(text)
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(InputError, match="holds no key: it takes 32 random bytes") as caught:
        find_key(tmp_path / "key")
    assert text == "" or text not in str(caught.value).replace(str(tmp_path), "")
    if "\0" not in text:
        monkeypatch.setenv(ENVIRONMENT, text)
        with pytest.raises(InputError, match=f"{ENVIRONMENT} holds no key"):
            find_key(None)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions as POSIX knows them")
@pytest.mark.parametrize(("mode", "warned"), [(0o600, 0), (0o400, 0), (0o640, 1), (0o604, 1)])
def test_a_key_that_others_may_read_is_told(
    mode: int, warned: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_key(tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    with caplog.at_level(logging.WARNING):
        find_key(tmp_path / "key")
    assert len(caplog.records) == warned
    assert all(f"chmod 600 {tmp_path / 'key'}" in record.getMessage() for record in caplog.records)


def test_without_cryptography(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingPackage, match=r"pip install 'gaitedge\[encryption\]'"):
        Gallery.open(path, MODEL, KEY)
    with pytest.raises(MissingPackage, match="an encrypted gallery needs cryptography"):
        Gallery.create(tmp_path / "new", MODEL, 4, 8, KEY)
    assert not (tmp_path / "new").exists()
    with Gallery.open(path) as gallery:
        assert gallery.remove("Ada") == 2
