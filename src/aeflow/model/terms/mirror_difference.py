"""Mirror difference: how far a position is from its mirror image's, beyond what normals differ."""

from __future__ import annotations

from torch import Tensor

from aeflow.model.described import Described
from aeflow.model.terms.subspace_energy import SubspaceEnergy


class Module(SubspaceEnergy):
    """``x_p = log |A (z_p - z'_p - m_p)|^2 / k``, z' of the mirrored image; no registration of the sides.

    What moves both sides alike, as another exposure or age does, cancels.
    """

    def values(self, described: Described) -> Tensor:
        """Return the difference from the mirror image."""
        return difference(described, self.channels)


def difference(described: Described, channels: slice) -> Tensor:
    """Return ``z - z'`` of some channels, (B, C, h, w)."""
    return described.z[:, channels] - described.mirrored[:, channels]
