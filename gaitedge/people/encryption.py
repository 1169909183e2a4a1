"""A gallery's key, and embeddings that are encrypted at rest with AES-256-GCM (NIST SP 800-38D).

An encrypted embedding is a fresh random nonce of 12 bytes, the ciphertext, and a tag of 16 bytes. What it
belongs to is authenticated with it, so that one that was altered or put in another's place is found.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import secrets
import sys
from pathlib import Path

from gaitedge.errors import InputError, require
from gaitedge.files import atomic_write

__all__ = ["ENVIRONMENT", "Cipher", "NotAuthentic", "find_key", "make_key", "parse_key"]

ENVIRONMENT = "GAITEDGE_GALLERY_KEY"
KEY_BYTES, NONCE_BYTES, TAG_BYTES = 32, 12, 16
_log = logging.getLogger(__name__)


class NotAuthentic(Exception):
    """Encrypted with another key, altered, or put in another's place; callers say which gallery."""


class Cipher:
    """Encrypts and decrypts with one key for one model's gallery.

    Nonces are random: one key serves for 2³² embeddings (SP 800-38D, 8.3). Raises MissingPackage where
    `cryptography` is not installed.
    """

    def __init__(self, key: bytes, fingerprint: str) -> None:
        ciphers = require("cryptography.hazmat.primitives.ciphers.aead", "an encrypted gallery")
        self._invalid = require("cryptography.exceptions", "an encrypted gallery").InvalidTag
        self._aes = ciphers.AESGCM(check_key(key))
        self._fingerprint = fingerprint

    def seal(self, plain: bytes, sequence: int, subject: str) -> bytes:
        """Encrypt one sequence's embedding."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed: bytes = self._aes.encrypt(nonce, plain, self._belonging(sequence, subject))
        return nonce + sealed

    def unseal(self, blob: bytes, sequence: int, subject: str) -> bytes:
        """Decrypt it. Raises NotAuthentic unless it was sealed for that sequence, subject, model and key."""
        if len(blob) < NONCE_BYTES + TAG_BYTES:
            raise NotAuthentic
        try:
            plain: bytes = self._aes.decrypt(
                blob[:NONCE_BYTES], blob[NONCE_BYTES:], self._belonging(sequence, subject)
            )
        except self._invalid:
            raise NotAuthentic from None
        return plain

    def make_check(self) -> bytes:
        """What a gallery keeps to tell a wrong key at once: nothing, sealed. Sequences count from 1."""
        return self.seal(b"", 0, "")

    def fits(self, check: object) -> bool:
        """Whether `check` was made with this key for this model."""
        try:
            return isinstance(check, bytes) and self.unseal(check, 0, "") == b""
        except NotAuthentic:
            return False

    def _belonging(self, sequence: int, subject: str) -> bytes:
        return json.dumps(["gaitedge embedding", self._fingerprint, sequence, subject]).encode()


def find_key(key_file: Path | None) -> bytes | None:
    """The key of `key_file`, else of the environment's GAITEDGE_GALLERY_KEY, else None.

    Warns, through logging, where others than its owner may read the file. Raises InputError where what is
    there is no key, and OSError where the file cannot be read.
    """
    if key_file is None:
        text = os.environ.get(ENVIRONMENT)
        return None if text is None else parse_key(text, f"${ENVIRONMENT}")
    path = Path(key_file)
    with path.open("rb") as file:
        content = file.read(1024)
        mode = os.fstat(file.fileno()).st_mode & 0o777
    if mode & 0o077 and sys.platform != "win32":
        _log.warning("gaitedge: others may use the key in %s (mode %o); run: chmod 600 %s", path, mode, path)
    return parse_key(content.decode("ascii", "replace"), str(path))


def parse_key(text: str, where: str) -> bytes:
    """The key that 64 hexadecimal digits or base64 stand for.

    where: to name in the complaint, which never shows the text. Raises InputError where it is no 32 bytes.
    """
    text = text.strip()
    try:
        key = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        raise InputError(
            f"{where} holds no key: it takes {KEY_BYTES} random bytes as {2 * KEY_BYTES} hexadecimal digits "
            "or in base64; gaitedge gallery key FILE makes one"
        )
    return key


def check_key(key: bytes) -> bytes:
    """The key itself. Raises InputError unless it is 32 bytes."""
    if len(key) != KEY_BYTES:
        raise InputError(f"a gallery's key is {KEY_BYTES} bytes")
    return key


def make_key(path: Path) -> None:
    """Write a new random key that only this user may read. Raises InputError where `path` exists already."""
    path = Path(path)
    if path.exists():
        raise InputError(f"{path} exists already; galleries may need the key in it: choose another name")
    with atomic_write(path, private=True) as file:
        file.write(f"{secrets.token_bytes(KEY_BYTES).hex()}\n".encode())
