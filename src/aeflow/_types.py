"""Names of types that modules on every floor share."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]  # scores, measures and statistics
Floats32 = NDArray[np.float32]  # pixels and maps
Axis = Literal["axial", "coronal", "sagittal"]  # of a volume
