"""Lesion-subspace residual: how far a position is from normal, in the directions in which anomalies change it."""

from __future__ import annotations

from torch import Tensor

from aeflow.model.described import Described
from aeflow.model.terms.neighbours import mean_of_neighbours
from aeflow.model.terms.subspace_energy import SubspaceEnergy


class Module(SubspaceEnergy):
    """``log mean_top mean_q |A (z_q - m_q)|^2 / k``, m the normals' mean, q a position and those around it.

    A lesion rarely fills one position; what one alone shows is more often noise.
    """

    def values(self, described: Described) -> Tensor:
        """Return the description itself."""
        return described.z[:, self.channels]

    def energy(self, described: Described) -> Tensor:
        """Return the energy of each position and those around it, (B, h, w)."""
        energy = self.along(self.values(described) - self.mean).square().mean(dim=1)
        return mean_of_neighbours(energy, described.weight)
