"""DICOM files as images in [0, 1], parsed by pydicom; the rules are in ``reader``.

The reader is imported when first needed, which a process that leaves files to its decoders never does: pydicom and GDCM
take half as long to import as all else that a first score needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from aeflow.imageio.dicom.recognise import is_dicom

if TYPE_CHECKING:
    from aeflow.imageio.dicom.reader import dataset, directory, header, planes, read

__all__ = ["dataset", "directory", "header", "is_dicom", "planes", "read"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("aeflow.imageio.dicom.reader"), name)
