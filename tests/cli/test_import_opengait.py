from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Refused, in_process, succeed
from networks import random_silhouettes
from opengait_checkpoints import CASIA_B, SMALL, checkpoint, save

from gaitedge.bundle import Bundle
from gaitedge.engines import load
from gaitedge.model import GaitPart
from gaitedge.weights import fingerprint, load_weights


def test_from_a_checkpoint_to_embeddings(tmp_path: Path) -> None:
    source = save(tmp_path / "gait.pt", checkpoint(CASIA_B.state_dict()))
    out = tmp_path / "gait.safetensors"
    done = succeed("import-opengait", source, out)
    config, weights = load_weights(out)
    assert done.stdout.splitlines() == [
        "OpenGait's GaitPart, CASIA-B: channels 32, 64, 128, 16 parts, embeddings 16×128",
        "strips by block: 1, 4, 8 (assumed by the number of blocks: the weights do not say, --strips does)",
        "71 tensors, 1,204,000 parameters, iteration 120,000",
        f"{out}: model {fingerprint(config, weights)[:12]}",
    ]
    succeed("export", out, tmp_path / "gait.gait")
    silhouettes = random_silhouettes(1, 20, seed=0)
    embeddings = load(Bundle.open(tmp_path / "gait.gait")).embed(silhouettes)
    with torch.inference_mode():
        expected = GaitPart(config).load(weights)(torch.from_numpy(silhouettes)).numpy()
    assert embeddings.shape == (1, 16, 128)
    assert np.abs(embeddings - expected).max() < 1e-4 * np.abs(expected).max()


def test_json(tmp_path: Path) -> None:
    source = save(tmp_path / "gait.pt", SMALL.state_dict())
    out = tmp_path / "gait.safetensors"
    found = succeed("import-opengait", source, out, "--strips", "1,2,3", "--json").json
    config, weights = load_weights(out)
    assert found["path"] == str(out)
    assert (found["configuration"], found["strips"], found["strips_assumed"]) == ("another", [1, 2, 3], False)
    assert (found["tensors"], found["iteration"]) == (23, None)
    assert found["parameters"] == sum(torch.Size(shape).numel() for shape in SMALL.shapes().values())
    assert found["fingerprint"] == fingerprint(config, weights)
    assert tuple(found["config"]["strips"]) == config.strips == (1, 1, 2, 2, 3, 3)
    text = succeed("import-opengait", source, out).stdout
    assert text.startswith("OpenGait's GaitPart, a configuration of its own: channels 4, 6, 8, 4 parts")
    assert "iteration" not in text


class Intruder:
    """Runs a program when it is unpickled for real."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("echo > intruded",)


def whole(here: Path) -> Path:
    return save(here / "bad.pt", checkpoint(SMALL.state_dict()))


def cut(here: Path) -> Path:
    data = whole(here).read_bytes()
    (here / "bad.pt").write_bytes(data[: len(data) // 2])
    return here / "bad.pt"


def cut_legacy(here: Path) -> Path:
    path = save(here / "bad.pt", SMALL.state_dict(), _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-500])
    return path


def flipped(here: Path) -> Path:
    """A bit of a weight, which PyTorch itself does not notice."""
    path = save(here / "bad.pt", SMALL.state_dict())
    data = bytearray(path.read_bytes())
    data[data.index(SMALL.state_dict()["Head.fc_bin"].numpy().tobytes()) + 2] ^= 1
    path.write_bytes(bytes(data))
    return path


def a_zip(here: Path) -> Path:
    with zipfile.ZipFile(here / "bad.pt", "w") as archive:
        archive.writestr("gait/notes.txt", "a walk")
    return here / "bad.pt"


def a_text(here: Path) -> Path:
    (here / "bad.pt").write_text("a checkpoint, a checkpoint, a checkpoint")
    return here / "bad.pt"


def empty(here: Path) -> Path:
    (here / "bad.pt").touch()
    return here / "bad.pt"


def a_folder(here: Path) -> Path:
    (here / "bad.pt").mkdir()
    return here / "bad.pt"


def nothing(here: Path) -> Path:
    return here / "bad.pt"


def intruder(here: Path) -> Path:
    return save(here / "bad.pt", {**checkpoint(SMALL.state_dict()), "scheduler": Intruder()})


def intruder_legacy(here: Path) -> Path:
    return save(here / "bad.pt", {"model": Intruder()}, _use_new_zipfile_serialization=False)


def intruder_pickled(here: Path) -> Path:
    (here / "bad.pt").write_bytes(pickle.dumps(Intruder()))
    return here / "bad.pt"


def a_module(here: Path) -> Path:
    return save(here / "bad.pt", GaitPart())


def arrays(here: Path) -> Path:
    return save(here / "bad.pt", {"model": {"Head.fc_bin": np.zeros(3)}})


def another_model(here: Path) -> Path:
    return save(here / "bad.pt", {"model": torch.nn.Linear(2, 3).state_dict()})


def our_own(here: Path) -> Path:
    return save(here / "bad.pt", GaitPart().state_dict())


def no_tensors(here: Path) -> Path:
    return save(here / "bad.pt", {"model": dict.fromkeys(SMALL.shapes(), 1.0)})


def a_list(here: Path) -> Path:
    return save(here / "bad.pt", {"model": [torch.zeros(3)], "iteration": 3})


def one_of_another_shape(here: Path) -> Path:
    return save(here / "bad.pt", {**SMALL.state_dict(), "Head.fc_bin": torch.zeros(4, 9, 5)})


def one_missing_and_one_more(here: Path) -> Path:
    state = SMALL.state_dict()
    state["Head.fc_bin2"] = state.pop("TFA.pooling_func.conv1d3x3.1.2.conv.weight")
    return save(here / "bad.pt", state)


CHECKPOINTS: list[tuple[Callable[[Path], Path], tuple[str, ...]]] = [
    (cut, ("no PyTorch checkpoint, or damaged or cut off", "once more")),
    (cut_legacy, ("no PyTorch checkpoint, or damaged or cut off",)),
    (flipped, ("no PyTorch checkpoint, or damaged or cut off",)),
    (a_zip, ("no PyTorch checkpoint",)),
    (a_text, ("no PyTorch checkpoint",)),
    (empty, ("no PyTorch checkpoint",)),
    (a_folder, ("is a folder; name the checkpoint in it",)),
    (nothing, ("no checkpoint at",)),
    (intruder, ("is refused", "system", "nothing is run", "torch.save(model.state_dict()")),
    (intruder_legacy, ("is refused", "system", "nothing is run")),
    (intruder_pickled, ("is refused", "nothing is run")),
    (a_module, ("is refused", "it calls for gaitedge.model.GaitPart", "torch.save(model.state_dict()")),
    (arrays, ("is refused", "it calls for numpy")),
    (another_model, ("is no GaitPart of OpenGait's", "2 values, named weight, bias")),
    (our_own, ("is no GaitPart of OpenGait's", "named fc, frame.0")),
    (no_tensors, ("Head.fc_bin is float, must be a tensor",)),
    (a_list, ("under 'model', holds a list",)),
    (one_of_another_shape, ("Head.fc_bin is [4, 9, 5], must be [4, 8, 5]",)),
    (
        one_missing_and_one_more,
        ("conv1d3x3.1.2.conv.weight is missing, must be [8, 2, 3]; Head.fc_bin2 is unknown",),
    ),
]


@pytest.mark.parametrize(("make", "needles"), CHECKPOINTS, ids=[make.__name__ for make, _ in CHECKPOINTS])
def test_a_checkpoint_that_cannot_be_used(
    make: Callable[[Path], Path],
    needles: tuple[str, ...],
    tmp_path: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is written, neither by the command nor by what the file would run."""
    monkeypatch.chdir(tmp_path)
    bad = make(tmp_path)
    (tmp_path / "old.safetensors").write_bytes(b"weights")
    refused(["import-opengait", bad, "new.safetensors"], "bad.pt", *needles)
    refused(["import-opengait", bad, "old.safetensors", "--json"], "bad.pt", *needles)


def test_the_intruder_would_have_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.load(intruder(tmp_path), weights_only=False)
    assert (tmp_path / "intruded").exists()


def test_a_torchscript_archive(tmp_path: Path, refused: Refused) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch means to do without them
        torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)).save(str(tmp_path / "bad.pt"))
    refused(["import-opengait", tmp_path / "bad.pt", tmp_path / "new.safetensors"], "no PyTorch checkpoint")


def test_a_destination_that_cannot_be(tmp_path: Path, refused: Refused) -> None:
    source = whole(tmp_path)
    refused(["import-opengait", source, tmp_path / "none" / "new.safetensors"], "there is no folder", "none")
    refused(["import-opengait", source, tmp_path], "is a folder; name the weights to write")
    refused(["import-opengait", source, source], "is the checkpoint itself")


def test_strips(tmp_path: Path, refused: Refused) -> None:
    source, out = whole(tmp_path), tmp_path / "new.safetensors"
    refused(["import-opengait", source, out, "--strips", "1,4"], "has 3 blocks and needs as many")
    refused(["import-opengait", source, out, "--strips", "1,4,17"], "cannot be cut into 17 strips")
    done = in_process("import-opengait", source, out, "--strips", "1;4;8")
    assert (done.status, done.stdout) == (2, "")
    assert "1;4;8" in done.stderr
