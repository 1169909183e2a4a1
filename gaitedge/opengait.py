"""OpenGait's GaitPart checkpoints as GaitEdge's weights.

OpenGait keeps a tensor for each part, GaitPartConfig.shapes() one for all parts:

    Backbone.forward_block.feature.{0,2,5,7,10,12,14,16}.conv.weight    frame.0 to frame.7
    TFA.pooling_func.conv1d3x1.{part}.{0,2}.conv.weight                 mtb1.squeeze, mtb1.excite
    TFA.pooling_func.conv1d3x3.{part}.{0,2}.conv.weight                 mtb2.squeeze, mtb2.excite
    Head.fc_bin                                                         fc

Both divide silhouettes by 255, so that no value changes. Only the strips of the focal convolutions
cannot be told from the tensors.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gaitedge.config import HEIGHT, MAX_POOLS, GaitPartConfig
from gaitedge.errors import InputError, WeightsError, require
from gaitedge.torch_file import read_torch_file
from gaitedge.weights import Weights, check_destination, fingerprint, save_weights

__all__ = ["STRIPS", "Imported", "import_opengait", "read_opengait"]

STRIPS = {3: (1, 4, 8), 4: (1, 1, 8, 8)}
"""Number of blocks -> p of each block as OpenGait has it: for CASIA-B, and for OU-MVLP."""

_CONFIGURATIONS = {
    "CASIA-B": GaitPartConfig(embedding_dim=128),
    "OU-MVLP": GaitPartConfig(channels=(32, 64, 128, 256), strips=(1, 1, 1, 1, 8, 8, 8, 8)),
}
_CHANNELS = (32, 64, 128, 256)  # of a block of which no tensor tells
_MOST_BLOCKS = 8
# A convolution, its activation, the same again, and behind the first two blocks a max-pool.
_POSITIONS = tuple(2 * layer + min(layer // 2, MAX_POOLS) for layer in range(2 * _MOST_BLOCKS))
_BACKBONE = "Backbone.forward_block.feature."
_FRAME = _BACKBONE + "{}.conv.weight"
_MTB = "TFA.pooling_func.conv1d3x{}.{}.{}.conv.weight"
_FC = "Head.fc_bin"
_OF_A_PART = re.compile(_MTB.format("([13])", r"(\d+)", "([02])").replace(".", r"\."))


@dataclass(frozen=True)
class Imported:
    """What an import recognised and wrote."""

    path: Path
    configuration: str
    """"CASIA-B" or "OU-MVLP" where channels, parts and lengths are those of OpenGait's configuration
    of that name, "another" elsewhere."""
    config: GaitPartConfig
    strips: tuple[int, ...]
    """p of each block."""
    strips_assumed: bool
    """Whether nobody said so: p was taken from STRIPS by the number of blocks."""
    tensors: int
    """Of the checkpoint."""
    parameters: int
    iteration: int | None
    """At which it was saved; None where it does not say."""
    fingerprint: str


def import_opengait(checkpoint: Path, out: Path, strips: Sequence[int] | None = None) -> Imported:
    """Write the weights of an OpenGait checkpoint of GaitPart as a GaitEdge weights file.

    checkpoint, strips: as read_opengait takes them. `out` is written whole or not at all, after all
    of the checkpoint was found to fit. Raises WeightsError as read_opengait does and where `out`
    cannot be written, InputError on impossible strips, MissingPackage without PyTorch.
    """
    checkpoint, out = Path(checkpoint), check_destination(out)
    if out.exists() and checkpoint.exists() and out.samefile(checkpoint):
        raise WeightsError(f"{out} is the checkpoint itself; name another file to write")
    config, weights, iteration = read_opengait(checkpoint, strips)
    save_weights(out, config, weights)

    def measures(of: GaitPartConfig) -> dict[str, Any]:
        return {**dataclasses.asdict(of), "strips": None}

    known = (name for name, of in _CONFIGURATIONS.items() if measures(of) == measures(config))
    return Imported(
        path=out,
        configuration=next(known, "another"),
        config=config,
        strips=config.strips[::2],
        strips_assumed=strips is None,
        tensors=sum(len(names) for names in _names(config).values()),
        parameters=sum(array.size for array in weights.values()),
        iteration=iteration,
        fingerprint=fingerprint(config, weights),
    )


def read_opengait(
    path: Path, strips: Sequence[int] | None = None
) -> tuple[GaitPartConfig, Weights, int | None]:
    """Read a checkpoint of OpenGait's GaitPart: configuration, weights, and the iteration if it says.

    path: what OpenGait saves, {'model', 'optimizer', 'scheduler', 'iteration'}, or a state dict alone;
    names may bear the prefix `module.` of distributed runs. strips: p of each block; None takes STRIPS
    by the number of blocks. Channels, parts, squeeze and the embedding's length are read off the
    tensors, which may be of any floating type.

    Nothing of the file is run: what PyTorch does not read with weights_only is refused. Raises
    WeightsError where the file is missing, refused, damaged, or of another network, naming every
    tensor that is missing, unknown, of another shape or type, or not finite; InputError where the
    strips are impossible or must be given.
    """
    state, iteration = _load(Path(path))
    try:
        config = _config(state)
    except InputError as error:
        raise WeightsError(f"{path}: {error}") from None
    _check(config, state, path)
    rows = config.height(len(config.strips) - 1)
    if rows % config.parts:  # a pyramid of several scales would pass for parts of unequal height
        raise WeightsError(f"{path}: its {config.parts} parts do not divide {rows} rows, as GaitPart's must")
    blocks = len(config.channels)
    if strips is None and blocks not in STRIPS:
        example = ",".join(["1"] * blocks)
        raise InputError(
            f"{path} has {blocks} blocks, and its weights do not say into how many strips each is cut: "
            f"give one number a block, as in --strips {example}"
        )
    by_block = STRIPS[blocks] if strips is None else tuple(strips)
    if len(by_block) != blocks:
        raise InputError(f"{path} has {blocks} blocks and needs as many strip counts, not {list(by_block)}")
    config = dataclasses.replace(config, strips=tuple(p for p in by_block for _ in range(2)))
    weights: Weights = {}
    for ours, names in _names(config).items():
        arrays = [state[name].detach().float().numpy() for name in names]
        weights[ours] = np.ascontiguousarray(np.stack(arrays) if ours.startswith("mtb") else arrays[0])
    return config, weights, iteration


# The file ------------------------------------------------------------------------------------------


def _load(path: Path) -> tuple[dict[str, Any], int | None]:
    """The state dict of a checkpoint, without `module.`, and the iteration if it says."""
    found = read_torch_file(path)
    where, iteration = str(path), None
    if isinstance(found, dict) and "model" in found:
        where, iteration = f"{path}, under 'model',", found.get("iteration")
        found = found["model"]
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise WeightsError(f"{where} holds a {type(found).__name__}, must hold tensors by name")
    state: dict[str, Any] = {}
    for name, value in found.items():
        bare = name.removeprefix("module.")
        if bare in state:
            raise WeightsError(f"{where} holds {_shown(bare)} twice, with and without the prefix module.")
        state[bare] = value
    if not any(name.startswith(_BACKBONE) or _OF_A_PART.fullmatch(name) for name in state):
        some = ", ".join(map(_shown, list(state)[:3]))
        raise WeightsError(
            f"{where} is no GaitPart of OpenGait's: it holds {len(state)} values, "
            + (f"named {some}{', …' if len(state) > 3 else ''}" if state else "no tensor at all")
        )
    return state, iteration if type(iteration) is int else None


# The network ---------------------------------------------------------------------------------------


def _names(config: GaitPartConfig) -> dict[str, list[str]]:
    """Our name of a tensor -> OpenGait's: one, or one a part."""
    names = {f"frame.{layer}": [_FRAME.format(_POSITIONS[layer])] for layer in range(len(config.strips))}
    for template in (1, 2):
        for kind, position in (("squeeze", 0), ("excite", 2)):
            of_part = [_MTB.format(2 * template - 1, part, position) for part in range(config.parts)]
            names[f"mtb{template}.{kind}"] = of_part
    return {**names, "fc": [_FC]}


def _config(state: dict[str, Any]) -> GaitPartConfig:
    """The network that most of the shapes speak for, its strips left at 1.

    A tensor that is missing or of another shape is outvoted by its neighbours, so that it alone is
    named afterwards.
    """
    shapes = {name: tuple(value.shape) for name, value in state.items() if _plain(value)}
    frame = {
        layer: shape
        for layer, position in enumerate(_POSITIONS)
        if len(shape := shapes.get(_FRAME.format(position), ())) == 4
    }
    widths: list[int] = []  # C, as those who read the last block's features have it
    ratios: list[int] = []
    parts: Counter[tuple[str, str]] = Counter()
    for name, shape in shapes.items():
        found = _OF_A_PART.fullmatch(name)
        if not found or len(shape) != 3 or 0 in shape:
            continue
        kernel, _, position = found.groups()
        parts[kernel, position] += 1
        squeezed, width = shape[:2] if position == "0" else shape[1::-1]
        widths.append(width)
        ratios.append(max(1, width // squeezed))
    counts = [count for count in parts.values() if count <= HEIGHT]
    head = shapes.get(_FC, ())
    if len(head) == 3:
        widths.append(head[1])
        counts += [head[0]] if head[0] <= HEIGHT else []
    width = _most(widths, 0)

    said: list[list[int]] = []  # of each block: what its convolutions, and the next one, say
    for block in range(max(frame, default=-1) // 2 + 1):
        writers, readers = (2 * block, 2 * block + 1), (2 * block + 1, 2 * block + 2)
        said.append([frame[layer][0] for layer in writers if layer in frame])
        said[-1] += [frame[layer][1] for layer in readers if layer in frame]
    if said and width and width not in said[-1] and len(said) < _MOST_BLOCKS:
        said.append([width])  # the last block is missing as a whole
    channels = [_most(votes, _CHANNELS[min(block, 3)]) for block, votes in enumerate(said)]
    channels = channels or list(_CHANNELS[: 4 if width == _CHANNELS[3] else 3])
    return GaitPartConfig(
        channels=tuple(channels),
        strips=(1, 1) * len(channels),
        parts=_most(counts, 16),
        squeeze=_most(ratios, 4),
        embedding_dim=head[2] if len(head) == 3 else width or _CHANNELS[2],
    )


def _check(config: GaitPartConfig, state: dict[str, Any], path: Path) -> None:
    """Raise WeightsError, naming each tensor that does not fit, unless all of them are the network's."""
    shapes, problems, known = config.shapes(), [], set()
    for ours, names in _names(config).items():
        shape = shapes[ours][1:] if ours.startswith("mtb") else shapes[ours]
        faults: dict[str, list[str]] = {}
        for name in names:
            known.add(name)
            if fault := _fault(state[name], shape) if name in state else f"is missing, must be {list(shape)}":
                faults.setdefault(fault, []).append(name)
        for fault, faulty in faults.items():
            if 1 < len(faulty) == config.parts:  # one name for the same of every part
                every = faulty[0].replace(".0.", f".{{0..{config.parts - 1}}}.", 1)
                problems.append(f"{every} {fault}")
            else:
                problems += [f"{name} {fault}" for name in faulty]
    problems += [f"{_shown(name)} is unknown" for name in state if name not in known]
    if problems:
        channels = ", ".join(map(str, config.channels))
        raise WeightsError(
            f"{path} is not OpenGait's GaitPart, here of channels {channels} and {config.parts} parts: "
            + "; ".join(problems)
        )


def _fault(value: Any, shape: tuple[int, ...]) -> str:
    """What is wrong with a tensor that must be of this shape; nothing if it can be taken."""
    torch = require("torch", "reading a PyTorch checkpoint")
    if not _plain(value):
        kind = "a tensor without plain values" if isinstance(value, torch.Tensor) else type(value).__name__
        return f"is {kind}, must be a tensor {list(shape)}"
    if tuple(value.shape) != shape:
        return f"is {list(value.shape)}, must be {list(shape)}"
    if value.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        kind = str(value.dtype).removeprefix("torch.")
        return f"is {kind}, must be float16, bfloat16, float32 or float64"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return "repeats few values over many: it is no trained tensor"
    if not torch.isfinite(value.float()).all():
        return "holds NaN or infinite values"
    return ""


def _plain(value: Any) -> bool:
    """Whether it is a tensor with a value of its own for each index, here."""
    torch = require("torch", "reading a PyTorch checkpoint")
    return (
        isinstance(value, torch.Tensor)
        and not value.is_nested
        and value.layout == torch.strided
        and value.device.type == "cpu"
    )


def _most(votes: Iterable[int], default: int) -> int:
    """What most say; the first of them at a tie, and the default where nobody says anything."""
    return next((value for value, _ in Counter(votes).most_common(1)), default)


def _shown(name: str) -> str:
    return name if name.isprintable() else ascii(name)
