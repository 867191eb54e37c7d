"""Grid of a series of DICOM slices: one volume if they are parallel, as large as one another and evenly spaced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeflow.errors import count
from aeflow.imageio.image import Plane
from aeflow.results.nifti.map_file import new_header

PARALLEL = 1e-3  # largest difference of two directions' components
SAME_SPACING = 1e-3  # largest relative difference of two pixel spacings
EVEN = 0.1  # of the distance between slices: how far one may be from its place
TO_RAS = np.diag([-1.0, -1.0, 1.0])  # DICOM counts along left, posterior, superior, NIfTI right, anterior, superior
SCANNER, MILLIMETRES = 1, 2  # NIfTI's codes of a space and of a unit


class NoVolumeError(ValueError):
    """Error of slices that are no volume; its text says why, without names."""


@dataclass(frozen=True, slots=True)
class SeriesGrid:
    """Grid of a volume made of slices: its index counts columns, rows and slices."""

    order: list[int]  # of the given slices along the volume
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]  # (4, 4) from index to right, anterior, superior in mm

    def header(self) -> Any:
        """Return nibabel's header of a map on this grid."""
        header = new_header(self.shape)
        header.set_sform(self.affine, SCANNER)
        header["xyzt_units"] = MILLIMETRES
        header["pixdim"][1:4] = np.linalg.norm(self.affine[:3, :3], axis=0)
        if not _sheared(self.affine):  # a quaternion cannot say so, as of a tilted gantry
            header.set_qform(self.affine, SCANNER)
        return header


def grid_of(planes: Sequence[Plane]) -> SeriesGrid:
    """Return the grid of parallel slices, sorted by their place along the normal; NoVolumeError if there is none."""
    if len(planes) < 2:
        raise NoVolumeError("a single slice")
    first = planes[0]
    if any(plane.size != first.size for plane in planes):
        raise NoVolumeError("slices of different sizes")
    if not np.allclose([plane.spacing for plane in planes], first.spacing, rtol=SAME_SPACING, atol=0):
        raise NoVolumeError("slices of different pixel spacings")
    directions = np.array([(plane.along_row, plane.along_column) for plane in planes])
    if np.abs(directions - directions[0]).max() > PARALLEL:
        raise NoVolumeError("slices that are not parallel")
    along_row, along_column = directions.mean(axis=0)
    corners = np.array([plane.corner for plane in planes])
    along = corners @ np.cross(along_row, along_column)
    order = np.argsort(along, kind="stable")
    step = _even_step(corners[order], along[order])
    between_rows, between_columns = first.spacing
    affine = np.eye(4)
    affine[:3, :3] = TO_RAS @ np.column_stack([along_row * between_columns, along_column * between_rows, step])
    affine[:3, 3] = TO_RAS @ corners[order[0]]
    rows, columns = first.size
    return SeriesGrid(order.tolist(), (columns, rows, len(planes)), affine)


def _even_step(corners: NDArray[np.float64], along: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the step (3,) from one of the sorted slices to the next; NoVolumeError unless all steps are the same."""
    n, steps = len(corners), np.diff(along)
    usual = float(np.median(steps))
    if doubled := int((steps <= EVEN * usual).sum()):
        raise NoVolumeError(f"{count(doubled, 'slice')} at the place of another")
    if steps.max() > (2 - EVEN) * usual:
        raise NoVolumeError(f"a gap: slices {usual:.3g} mm apart, and two of them {steps.max():.3g} mm")
    step: NDArray[np.float64] = (corners[-1] - corners[0]) / (n - 1)
    off = np.linalg.norm(corners - corners[0] - np.outer(np.arange(n), step), axis=1).max()
    if off > EVEN * np.linalg.norm(step):
        raise NoVolumeError(f"slices that are not evenly spaced: one lies {off:.3g} mm off")
    return step


def _sheared(affine: NDArray[np.float64]) -> bool:
    """Return if the axes of a volume are not at right angles."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(directions.T @ directions - np.eye(3)).max() > PARALLEL)
