"""The commands of `gaitedge gallery`: what is in a gallery, who leaves it, its copies, its key, its past."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gaitedge.cli.console import Group, Json, print_json, say, table

__all__ = ["KeyFileOption", "gallery"]

GalleryArgument = Annotated[Path, typer.Argument(help="The gallery's file.")]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(
        help="File with the key of an encrypted gallery; $GAITEDGE_GALLERY_KEY by default.", readable=False
    ),
]

gallery = typer.Typer(
    cls=Group,
    help="Look into a gallery, remove people, export, import, encrypt, and see who changed it.",
    no_args_is_help=True,
)


@gallery.command("list")
def list_(path: GalleryArgument, json: Json = False) -> None:
    """List the people of a gallery and how many walks of each it holds."""
    from gaitedge.people.gallery import Gallery

    with Gallery.open(path) as opened:
        subjects = opened.subjects()
    if json:
        print_json(subjects)
    else:
        table(str(path), ["subject", "walks"], list(subjects.items()))


@gallery.command()
def remove(path: GalleryArgument, subject: str, json: Json = False) -> None:
    """Remove a person and all his or her walks; no byte of them stays in the file."""
    from gaitedge.people.gallery import Gallery

    with Gallery.open(path) as opened:
        number = opened.subject_number(subject)
        removed = opened.remove(subject)
        swept = opened.swept
    if json:
        print_json({"subject": subject, "number": number, "removed": removed, "swept": swept})
        return
    say(f"removed {subject} with {_walks(removed)}; the audit table keeps it as subject {number}")
    _say_if_unswept(swept)


@gallery.command()
def expire(
    path: GalleryArgument,
    older_than: Annotated[
        str, typer.Option(help="90d, 12w, 6m (of 30 days), or the date since when walks are kept.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    json: Json = False,
) -> None:
    """Remove the walks that were enrolled too long ago, and people of whom none is left."""
    from gaitedge.people.gallery import Gallery
    from gaitedge.people.retention import parse_age

    before = parse_age(older_than)
    with Gallery.open(path) as opened:
        expired = opened.expire(before, dry_run=dry_run)
        swept = dry_run or opened.swept
    if json:
        print_json({"before": before.isoformat(), "dry_run": dry_run, "expired": expired, "swept": swept})
        return
    if expired:
        table(str(path), ["subject", "walks"], list(expired.items()))
    verb = "would remove" if dry_run else "removed"
    say(f"{verb} {_walks(sum(expired.values()))} enrolled before {before.isoformat(timespec='seconds')}")
    _say_if_unswept(swept)


@gallery.command("export")
def export_(
    path: GalleryArgument,
    out: Annotated[Path, typer.Argument(help="An .npz file.")],
    plain: Annotated[
        bool, typer.Option("--plain", help="Write an encrypted gallery's embeddings without encryption.")
    ] = False,
    key_file: KeyFileOption = None,
) -> None:
    """Write all that a gallery holds, with a checksum, to an .npz file that NumPy reads without pickle."""
    from gaitedge.people.encryption import find_key
    from gaitedge.people.gallery import Gallery

    with Gallery.open(path, key=find_key(key_file)) as opened:
        opened.export(out, plain=plain)
    say(f"wrote {out}")


@gallery.command("import")
def import_(
    path: GalleryArgument,
    file: Annotated[Path, typer.Argument(help="What gallery export wrote.", readable=False)],
    key_file: KeyFileOption = None,
    json: Json = False,
) -> None:
    """Add an export's walks to a gallery of the same model, or make one of them; all or none."""
    from gaitedge.people.encryption import find_key
    from gaitedge.people.gallery import import_file

    imported = import_file(path, file, key=find_key(key_file))
    if json:
        print_json(imported)
    else:
        say(f"imported {_walks(imported.added)} into {path}; {imported.skipped} were there already")


@gallery.command()
def stats(path: GalleryArgument, json: Json = False) -> None:
    """Count what a gallery holds."""
    from gaitedge.people.gallery import Gallery

    with Gallery.open(path) as opened:
        found = opened.stats()
    if json:
        print_json(found)
        return
    rows: list[list[object]] = [
        ["people", found.subjects],
        ["walks", found.sequences],
        *([f"walks, {name}", count] for name, count in found.by_condition.items()),
        *([f"walks at view {name}", count] for name, count in found.by_view.items()),
        ["threshold", None if found.threshold is None else f"{found.threshold:.4f}"],
        *([f"threshold, {name}", value] for name, value in (found.operating_point or {}).items()),
        ["model", found.fingerprint[:12]],
        ["created", found.created],
        ["bytes", f"{found.size:,}"],
        ["embeddings", "encrypted" if found.encrypted else "not encrypted"],
        ["journal", "write-ahead log" if found.journal == "wal" else "rollback: readers, writers take turns"],
    ]
    table(str(path), ["", "value"], rows)


@gallery.command()
def audit(path: GalleryArgument, json: Json = False) -> None:
    """Show who changed a gallery, when and how, oldest first."""
    from gaitedge.people.gallery import Gallery

    with Gallery.open(path) as opened:
        entries = opened.audit()
    if json:
        print_json(entries)
        return
    rows = [
        [line.number, line.at, line.who, line.action, line.subject, line.name, line.sequences, line.details]
        for line in entries
    ]
    columns = ["number", "at", "who", "action", "subject", "name", "walks", "details"]
    table(str(path), columns, rows)


@gallery.command()
def key(out: Annotated[Path, typer.Argument(help="A file that does not exist yet.")]) -> None:
    """Make a random key for encrypted galleries, in a file that only you may read."""
    from gaitedge.people.encryption import make_key

    make_key(out)
    say(f"wrote {out}; without it a gallery that it encrypts cannot be read: keep a copy in a safe place")


@gallery.command()
def encrypt(path: GalleryArgument, key_file: KeyFileOption = None, json: Json = False) -> None:
    """Encrypt the embeddings of a gallery with a key; the names stay readable."""
    from gaitedge.errors import InputError
    from gaitedge.people.encryption import ENVIRONMENT, find_key
    from gaitedge.people.gallery import Gallery

    found = find_key(key_file)
    if found is None:
        raise InputError(
            f"encrypting {path} needs a key: gaitedge gallery key FILE makes one; give it with "
            f"--key-file FILE or in {ENVIRONMENT}"
        )
    with Gallery.open(path) as opened:
        opened.encrypt(found)
        swept = opened.swept
    _recoded(path, "encrypted", swept, json)


@gallery.command()
def decrypt(path: GalleryArgument, key_file: KeyFileOption = None, json: Json = False) -> None:
    """Keep the embeddings of a gallery without encryption again."""
    from gaitedge.people.encryption import find_key
    from gaitedge.people.gallery import Gallery

    with Gallery.open(path, key=find_key(key_file)) as opened:
        opened.decrypt()
        swept = opened.swept
    _recoded(path, "decrypted", swept, json)


def _recoded(path: Path, done: str, swept: bool, json: bool) -> None:
    if json:
        print_json({"gallery": path, "done": done, "swept": swept})
        return
    say(f"{done} {path}")
    _say_if_unswept(swept)


def _say_if_unswept(swept: bool) -> None:
    if not swept:
        say("the former bytes are still being read, or the disk is full: the next opening wipes them")


def _walks(count: int) -> str:
    return f"{count} {'walk' if count == 1 else 'walks'}"
