"""Files of torch.save, read without running anything that is in them."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

from gaitedge.errors import WeightsError, require

__all__ = ["read_torch_file"]

# What torch.load raises, besides UnpicklingError, on a file that is damaged or of another kind.
_BROKEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def read_torch_file(path: Path) -> Any:
    """What torch.save wrote: tensors and plain values alone, their checksums compared.

    Raises WeightsError where the file is missing or damaged, or asks for anything to be run.
    """
    torch = require("torch", "reading a PyTorch checkpoint")
    if path.is_dir():
        raise WeightsError(f"{path} is a folder; name the checkpoint in it")
    if not path.is_file():
        raise WeightsError(f"no checkpoint at {path}")
    with path.open("rb") as file:
        try:
            if zipfile.is_zipfile(file):  # PyTorch reads over damaged values
                with zipfile.ZipFile(file) as archive:
                    if archive.testzip() is not None:
                        raise zipfile.BadZipFile
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of other formats, which then fail with an error
                return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            called = re.search(r"GLOBAL ([\w.]+)", str(error))
            why = f"it calls for {called[1]}, and only" if called else "only"
            raise WeightsError(
                f"{path} is refused: {why} tensors and plain values are read, nothing is run; if you trust "
                "it, save its weights alone where it came from: torch.save(model.state_dict(), 'weights.pt')"
            ) from error
        except _BROKEN as error:
            raise WeightsError(
                f"{path} is no PyTorch checkpoint, or damaged or cut off: copy it here once more"
            ) from error
