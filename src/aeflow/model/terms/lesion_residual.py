"""Lesion-subspace residual: how far a position is from normal, in the directions in which anomalies change it."""

from __future__ import annotations

from torch import Tensor

from aeflow.model.described import Described
from aeflow.model.terms.subspace_energy import SubspaceEnergy


class Module(SubspaceEnergy):
    """``x_p = log |A (z_p - m_p)|^2 / k``, m_p the normals' mean there."""

    def values(self, described: Described) -> Tensor:
        """Return the description itself."""
        return described.z[:, self.channels]
