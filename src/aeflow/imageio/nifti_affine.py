"""Orientation of a NIfTI volume by its header, as NIfTI's own library (nifticlib), and so ITK and FSL, read it.

A quaternion that rounding made longer than 1 has the length 1, a qfac that is not negative is 1, and a voxel size that
is not positive is 1 in the matrix and unknown as a distance. An sform that spans no volume counts for nothing beside a
qform that does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_SPANNED_VOLUME = 1e-6  # least volume spanned by the three directions; a cube's is 1
LONGEST_QUATERNION = 1.01  # beyond it is no rounding
QUATERNION = ("quatern_b", "quatern_c", "quatern_d")


def affine_of(fields: Any) -> tuple[NDArray[np.float64], bool] | None:
    """Return the matrix (4, 4) of nibabel's header, and if its distances are known; None if it spans no volume."""
    if fields["sform_code"] and _spans(affine := fields.get_sform()):
        return affine, True
    if fields["qform_code"] and np.isfinite([fields[name] for name in QUATERNION]).all():
        sizes = fields["pixdim"][1:4]
        known = bool((sizes > 0).all())
        sizes[...] = np.where(sizes > 0, sizes, 1)
        fields["pixdim"][0] = -1 if fields["pixdim"][0] < 0 else 1
        length = np.linalg.norm([np.float64(fields[name]) for name in QUATERNION])
        if length > LONGEST_QUATERNION:
            return None
        for name in QUATERNION if length > 1 else ():
            fields[name] = fields[name] / length
        if _spans(affine := fields.get_qform()):
            return affine, known
    return None


def _spans(affine: NDArray[np.float64]) -> bool:
    """Return if the three directions of an affine matrix span a volume."""
    axes = affine[:3, :3]
    sizes = np.linalg.norm(axes, axis=0)
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        return False
    return bool(abs(np.linalg.det(axes / sizes)) >= MIN_SPANNED_VOLUME)
