"""Space of a NIfTI volume: its size, its orientation and the numbers that place it, which a map of it takes over.

The numbers are those of the header itself, so that any program lays the map where it lays the volume, whatever it makes
of an odd header. Nothing else of the header is kept: its texts may name a patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeflow._types import Axis

# index in (right, anterior, superior) of the axis that is cut
AXES: dict[Axis, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
SFORM = ("srow_x", "srow_y", "srow_z")
QFORM = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")


@dataclass(frozen=True, slots=True)
class NiftiSpace:
    """Space of a volume as its header gives it."""

    version: int  # of NIfTI, 1 or 2
    shape: tuple[int, ...]  # as stored, with axes of length 1 beyond the third
    orientation: tuple[tuple[float, float], ...]  # as nibabel.orientations has it
    numbers: tuple[tuple[str, tuple[float, ...]], ...]  # fields of the header that place the voxels

    @classmethod
    def of(cls, fields: Any, version: int, orientation: NDArray[np.float64]) -> NiftiSpace:
        """Return the space of nibabel's header ``fields``, as they are in the file."""
        rank = int(fields["dim"][0])
        names = ["sform_code", "qform_code", "xyzt_units"]
        names += [*SFORM] if fields["sform_code"] else []
        names += [*QFORM] if fields["qform_code"] else []
        numbers = {name: tuple(np.atleast_1d(fields[name]).tolist()) for name in names}
        numbers["pixdim"] = tuple(fields["pixdim"][: rank + 1].tolist())
        shape = tuple(int(n) for n in fields["dim"][1 : rank + 1])
        return cls(version, shape, tuple(map(tuple, orientation.tolist())), tuple(numbers.items()))

    @property
    def volume(self) -> tuple[int, ...]:
        """The first three sides; a picture has one slice."""
        return (*self.shape[:3], 1)[:3]


def canonical(voxels: NDArray[Any], orientation: Any) -> NDArray[Any]:
    """Return stored voxels turned to (right, anterior, superior): a view, so that what is written to it is stored."""
    from nibabel.orientations import apply_orientation

    turned: NDArray[Any] = apply_orientation(voxels, np.asarray(orientation))  # type: ignore[no-untyped-call]
    return turned


def slice_of(turned: NDArray[Any], index: int, axis: Axis) -> NDArray[Any]:
    """Return one slice of ``canonical`` voxels as a radiologist looks at it, rows first: again a view."""
    plane: NDArray[Any] = np.moveaxis(turned, AXES[axis], 0)[index]
    return plane[::-1, ::-1].swapaxes(0, 1)
