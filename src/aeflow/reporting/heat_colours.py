"""Colours of the maps: clear at the low end of the model's scale, bright at its high end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aeflow._types import Floats

# Red, green and blue of 256 steps: matplotlib's "inferno" from 0.35 to 0.95, written out so that a picture needs none.
INFERNO = bytes.fromhex(
    "7f1e6c801f6c801f6c82206c84206b84206b85216b85216b87216b88226a88226a8a226a8a226a8c23698d23698d2369"
    "8f24698f24699025689225689225689326679326679526679727669727669827669827669a28659b29649b29649d2964"
    "9d29649f2a63a02a63a02a63a22b62a22b62a32c61a52c60a52c60a62d60a62d60a82e5fa92e5ea92e5eab2f5eab2f5e"
    "ad305dae305cae305cb0315bb0315bb1325ab3325ab3325ab43359b43359b63458b73557b73557b93556b93556ba3655"
    "bc3754bc3754bd3853bd3853bf3952c03a51c03a51c13a50c13a50c33b4fc43c4ec43c4ec63d4dc63d4dc73e4cc83f4b"
    "c83f4bca404aca404acb4149cc4248cc4248ce4347cf4446cf4446d04545d04545d24644d34743d34743d44842d44842"
    "d54a41d74b3fd74b3fd84c3ed84c3ed94d3dda4e3cda4e3cdb503bdb503bdd513ade5238de5238df5337df5337e05536"
    "e15635e15635e25734e25734e35933e45a31e45a31e55c30e55c30e65d2fe75e2ee75e2ee8602de8602de9612bea632a"
    "ea632aeb6429eb6429eb6628ec6726ec6726ed6925ed6925ee6a24ef6c23ef6c23ef6e21ef6e21f06f20f1711ff1711f"
    "f1731df1731df2741cf3761bf3761bf37819f37819f47918f57b17f57b17f57d15f57d15f67e14f68013f68013f78212"
    "f78212f78410f8850ff8850ff8870ef8870ef8890cf98b0bf98b0bf98c0af98e09f98e09fa9008fa9008fa9207fa9407"
    "fa9407fb9606fb9606fb9706fb9906fb9906fb9b06fb9b06fb9d07fc9f07fc9f07fca108fca108fca309fca50afca50a"
    "fca60cfca60cfca80dfcaa0ffcaa0ffcac11fcac11fcae12fcb014fcb014fcb216fcb216fcb418fbb61afbb61afbb81d"
    "fbb81dfbba1ffbbc21fbbc21fbbe23fbbe23fac026fac228fac228fac42afac42afac62df9c72ff9c72ff9c932f9c932"
    "f9cb35f8cd37f8cd37f8cf3af8cf3af7d13df7d340f7d340f6d543f6d543f6d746f5d949f5d949f5db4cf5db4cf4dd4f"
    "f4df53f4df53f4e156f4e156f3e35af3e55df3e55df2e661f2e661f2e865f2ea69f2ea69f1ec6df1ec6df1ed71f1ef75"
)


def _heat(background: float | None = None) -> Floats:
    """Return colours (256, 4) that are clear for typical values, then red to pale yellow and ever more opaque.

    With ``background`` they are mixed onto that grey.
    """
    colours = np.ones((256, 4))
    colours[:, :3] = np.frombuffer(INFERNO, np.uint8).reshape(256, 3) / 255
    colours[:, 3] = 0.7 * np.linspace(0, 1, 256) ** 0.7
    if background is not None:
        colours[:, :3] = background + colours[:, 3:] * (colours[:, :3] - background)
        colours[:, 3] = 1
    return colours


HEAT, HEAT_ON_GREY = _heat(), _heat(0.4)


def ramp_of(width: int) -> NDArray[np.uint8]:
    """Return the colours (width, 3) of a bar from the low to the high end, on grey."""
    steps = np.linspace(0, len(HEAT_ON_GREY) - 1, width).round().astype(np.intp)
    return np.asarray((255 * HEAT_ON_GREY[steps, :3]).round().astype(np.uint8))
