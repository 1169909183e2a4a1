"""A bundle is read whole and right, or refused in one line."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import TARGETS

from gaitedge.bundle import FOLD_GRAPH, Bundle, make_bundle, write_bundle
from gaitedge.config import GaitPartConfig
from gaitedge.errors import BundleError, WeightsError
from gaitedge.files import sha256
from gaitedge.weights import Weights, fingerprint, load_weights

SMALL = GaitPartConfig(channels=(2, 4, 8), parts=4, embedding_dim=8)
GRAPH = bytes(range(256)) * 8


def draw_weights(config: GaitPartConfig) -> Weights:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in config.shapes().items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "small.gait"
    write_bundle(path, SMALL, draw_weights(SMALL), {FOLD_GRAPH: GRAPH}, TARGETS)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(path: Path, members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> None:
    """Write any archive whose comment vouches for its manifest, as a forger would."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zipfile, about duplicate names
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, data in members:
                archive.writestr(name, data)
            archive.comment = sha256(dict(members)["manifest.json"]).encode()


def repack(path: Path, change: Callable[[dict[str, bytes]], object]) -> None:
    """Change members and let the manifest vouch for what they became."""
    members = members_of(path)
    change(members)
    manifest = json.loads(members["manifest.json"])
    manifest["members"] = {
        name: {"sha256": sha256(data), "size": len(data)}
        for name, data in members.items()
        if name != "manifest.json"
    }
    members["manifest.json"] = json.dumps(manifest).encode()
    pack(path, list(members.items()))


def edit_manifest(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    members = members_of(path)
    manifest = json.loads(members["manifest.json"])
    change(manifest)
    members["manifest.json"] = json.dumps(manifest).encode()
    pack(path, list(members.items()))


def test_what_is_written_is_read(path: Path, tmp_path: Path) -> None:
    weights = draw_weights(SMALL)
    bundle = Bundle.open(path)
    assert bundle.config == SMALL
    assert bundle.fingerprint == fingerprint(SMALL, weights)
    assert bundle.manifest.targets == TARGETS
    assert bundle.manifest.written_by.startswith("GaitEdge ")
    assert bundle.manifest.created.endswith("+00:00")
    assert bundle.read(FOLD_GRAPH) == GRAPH
    assert bundle.weights().keys() == weights.keys()
    for name, array in bundle.weights().items():
        np.testing.assert_array_equal(array, weights[name])
    # The member is a weights file like any other.
    unzipped = tmp_path / "weights.safetensors"
    unzipped.write_bytes(bundle.read("weights.safetensors"))
    config, again = load_weights(unzipped)
    assert fingerprint(config, again) == bundle.fingerprint


def test_members_are_stored_and_the_comment_is_the_manifests_digest(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["manifest.json", "weights.safetensors", "graphs/fold.onnx"]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.comment.decode() == sha256(archive.read("manifest.json"))


def test_weights_laid_out_otherwise_in_memory_are_the_same_bundle(path: Path, tmp_path: Path) -> None:
    strided = {name: np.asfortranarray(array) for name, array in draw_weights(SMALL).items()}
    write_bundle(tmp_path / "strided.gait", SMALL, strided, {FOLD_GRAPH: GRAPH}, TARGETS)
    assert Bundle.open(tmp_path / "strided.gait").fingerprint == Bundle.open(path).fingerprint


@pytest.mark.parametrize("mask", [0x01, 0xFF])
def test_a_flipped_byte_is_refused_or_does_not_matter(path: Path, mask: int) -> None:
    good, whole = Bundle.open(path), path.read_bytes()
    refused = 0
    positions = {*range(0, len(whole), 997), *range(512), *range(len(whole) - 512, len(whole))}
    for position in sorted(positions):
        damaged = bytearray(whole)
        damaged[position] ^= mask
        path.write_bytes(damaged)
        try:
            bundle = Bundle.open(path)
        except BundleError:
            refusal(path)
            refused += 1
        else:
            assert bundle == good, f"byte {position} changed what was read"
    # A few header bytes, such as dates, are about nothing that GaitEdge reads.
    assert refused > 0.85 * len(positions)


def test_every_byte_of_every_member_counts(path: Path) -> None:
    whole = path.read_bytes()
    for name, data in members_of(path).items():
        start = whole.index(data)
        for position in (start, start + len(data) // 2, start + len(data) - 1):
            damaged = bytearray(whole)
            damaged[position] ^= 0x10
            path.write_bytes(damaged)
            assert name in refusal(path)


def test_damage_that_the_zip_itself_vouches_for_is_found(path: Path) -> None:
    members = members_of(path)
    members[FOLD_GRAPH] = members[FOLD_GRAPH][:-1] + b"x"
    pack(path, list(members.items()))
    assert "graphs/fold.onnx is damaged" in refusal(path)


def test_a_cut_or_prolonged_file_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 499), len(whole) - 1]:
        path.write_bytes(whole[:length])
        refusal(path)
    for longer in (whole + b"more", b"more" + whole):
        path.write_bytes(longer)
        assert "before or after the archive" in refusal(path)


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    assert "no bundle at" in refusal(tmp_path / "absent.gait")
    assert "is a folder" in refusal(tmp_path)
    text = tmp_path / "text.gait"
    text.write_text("not a zip", encoding="ascii")
    assert "not a GaitEdge bundle" in refusal(text)
    with zipfile.ZipFile(text, "w") as archive:
        archive.writestr("readme.txt", "some other zip")
    assert "it has no manifest.json" in refusal(text)


def test_a_file_of_absurd_size_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.gait"
    with path.open("wb") as file:
        os.truncate(file.fileno(), 2 << 30)  # a hole: takes no room on the disk
    assert "larger than 1024 MiB" in refusal(path)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../up", "a/../../up", "a//b", "a\\b", "C:/x", "dir/", ".hidden"]
)
def test_odd_member_names_are_refused(path: Path, name: str) -> None:
    repack(path, lambda members: members.update({name: b"x"}))
    assert "tampered with" in refusal(path)


def test_two_members_of_one_name_are_refused(path: Path) -> None:
    members = list(members_of(path).items())
    pack(path, [*members, (FOLD_GRAPH, GRAPH)])
    assert "two members of one name" in refusal(path)


def test_a_member_that_the_manifest_does_not_list_is_refused(path: Path) -> None:
    pack(path, [*members_of(path).items(), ("extra.bin", b"x")])
    assert refusal(path).endswith("not those that its manifest lists: extra.bin")


def test_a_listed_member_that_is_absent_is_refused(path: Path) -> None:
    pack(path, [(name, data) for name, data in members_of(path).items() if name != FOLD_GRAPH])
    assert refusal(path).endswith("not those that its manifest lists: graphs/fold.onnx")


def test_compressed_members_are_refused(path: Path) -> None:
    repack(path, lambda members: members.update({"zeros.bin": bytes(10_000_000)}))
    pack(path, list(members_of(path).items()), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    assert "is compressed" in refusal(path)


def test_members_that_overlap_are_refused(path: Path) -> None:
    """Several directory entries for one large member: a small file that unpacks to a large one."""
    repack(
        path,
        lambda members: members.update({f"big{i}.bin": bytes(50_000 if i == 0 else 1) for i in range(9)}),
    )
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        start = archive.start_dir
    for i in range(1, 9):  # sizes in the central directory: bytes 20 to 27 of an entry, its name at 46
        entry = data.index(f"big{i}.bin".encode(), start) - 46
        data[entry + 20 : entry + 28] = (50_000).to_bytes(4, "little") * 2
    path.write_bytes(data)
    assert "larger than the file" in refusal(path)


def test_a_newer_format_asks_for_an_update(path: Path) -> None:
    edit_manifest(path, lambda manifest: manifest.update(format=3))
    assert "written by a newer GaitEdge: format 3, this one reads 2; update GaitEdge" in refusal(path)


@pytest.mark.parametrize("version", [0, -1, "1", None, True, 1.0])
def test_an_impossible_format_is_refused(path: Path, version: object) -> None:
    edit_manifest(path, lambda manifest: manifest.update(format=version))
    assert "which no GaitEdge ever wrote" in refusal(path)


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b'{"format": 1}', b"\xff", b"[" * 100_000, b'{"format": 1, "config": 3}', b"null"],
)
def test_a_manifest_that_is_none_is_refused(path: Path, text: bytes) -> None:
    pack(path, [(name, text if name == "manifest.json" else data) for name, data in members_of(path).items()])
    assert "manifest" in refusal(path)


@pytest.mark.parametrize("key", ["config", "members", "targets", "fingerprint"])
@pytest.mark.parametrize("value", [None, 7, [], "x", {"a": 1}])
def test_a_manifest_with_a_wrong_entry_is_refused(path: Path, key: str, value: object) -> None:
    edit_manifest(path, lambda manifest: manifest.update({key: value}))
    refusal(path)


def test_weights_of_another_model_are_refused(path: Path) -> None:
    other = {name: array + 1 for name, array in draw_weights(SMALL).items()}
    data = make_bundle(SMALL, other, {}, {}).read("weights.safetensors")
    repack(path, lambda members: members.update({"weights.safetensors": data}))
    assert "another model than the manifest's fingerprint says" in refusal(path)


def test_weights_of_another_shape_are_refused(path: Path) -> None:
    wider = dataclasses.replace(SMALL, embedding_dim=9)
    data = make_bundle(wider, draw_weights(wider), {}, {}).read("weights.safetensors")
    repack(path, lambda members: members.update({"weights.safetensors": data}))
    assert "fc is float32[4, 8, 9], must be float32[4, 8, 8]" in refusal(path)


def test_weights_that_are_no_safetensors_are_refused(path: Path) -> None:
    repack(path, lambda members: members.update({"weights.safetensors": b"nonsense"}))
    assert "weights.safetensors is not readable" in refusal(path)


def test_a_bundle_without_weights_is_refused(path: Path) -> None:
    repack(path, lambda members: members.pop("weights.safetensors"))
    assert "holds no weights.safetensors" in refusal(path)


def test_an_absent_member_is_named(path: Path) -> None:
    with pytest.raises(BundleError, match=r"small\.gait holds no graphs/other\.onnx; export it again"):
        Bundle.open(path).read("graphs/other.onnx")


def test_writing_refuses_bad_weights_and_leaves_what_was_there(path: Path) -> None:
    before, weights = path.read_bytes(), draw_weights(SMALL)
    weights["fc"][0, 0, 0] = np.nan
    with pytest.raises(WeightsError, match="fc holds NaN"):
        write_bundle(path, SMALL, weights, {FOLD_GRAPH: GRAPH}, TARGETS)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["small.gait"]


def test_writing_needs_a_folder_and_a_file_name(path: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(path)
    with pytest.raises(BundleError, match="is a folder; name the bundle to write"):
        bundle.save(tmp_path)
    with pytest.raises(BundleError, match=r"cannot write .*: there is no folder"):
        bundle.save(tmp_path / "absent" / "a.gait")


def test_writing_replaces_no_device_no_pipe_and_no_weights(path: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(path)
    pipe, weights = tmp_path / "pipe.gait", tmp_path / "trained.safetensors"
    os.mkfifo(pipe)
    weights.write_bytes(b"weeks of training")
    with pytest.raises(BundleError, match="is a device or a pipe; name the bundle to write"):
        bundle.save(pipe)
    with pytest.raises(BundleError, match=r"is a name for weights; .* as in trained\.gait"):
        bundle.save(weights)
    assert pipe.is_fifo()
    assert weights.read_bytes() == b"weeks of training"


def test_reading_does_not_touch_the_file_again(path: Path) -> None:
    bundle = Bundle.open(path)
    path.unlink()
    assert bundle.read(FOLD_GRAPH) == GRAPH
    assert bundle.weights().keys() == SMALL.shapes().keys()
