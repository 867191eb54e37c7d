"""Mirror difference: how far a position is from its mirror image's, beyond what normals differ."""

from __future__ import annotations

from torch import Tensor

from aeflow.model.described import Described
from aeflow.model.terms.neighbours import beyond, neighbours
from aeflow.model.terms.subspace_energy import SubspaceEnergy


class Module(SubspaceEnergy):
    """``log mean_top min_q |A (z_p - z'_q - m_p)|^2 / k``, z' of the mirrored image, q the position p or one beside it.

    No sides are registered: tissue that has its like a position further is no anomaly. What moves both sides alike, as
    another exposure or age does, cancels.
    """

    def values(self, described: Described) -> Tensor:
        """Return the difference from the mirror image."""
        return difference(described, self.channels)

    def energy(self, described: Described) -> Tensor:
        """Return the least energy of each position against the mirror image around it, (B, h, w)."""
        here = self.along(described.z[:, self.channels]) - self.along(self.mean)
        there = neighbours(self.along(described.mirrored[:, self.channels]))
        return ((here - there).square().mean(dim=2) + beyond(described.mirrored_weight)).amin(dim=0)


def difference(described: Described, channels: slice) -> Tensor:
    """Return ``z - z'`` of some channels, (B, C, h, w)."""
    return described.z[:, channels] - described.mirrored[:, channels]
