"""Region of an organ whose trained weights come with the package."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import ClassVar

from safetensors.torch import load_file

from aeflow.errors import SettingsError
from aeflow.model.encoder import Encoder
from aeflow.model.regions.learned import LearnedRegion

WEIGHTS = files("aeflow.model.regions") / "weights"


class ShippedRegion(LearnedRegion):
    """Learned region that reads its weights from ``weights/{organ}-{encoder}.safetensors``."""

    organ: ClassVar[str]

    def __init__(self, encoder: Encoder) -> None:
        """Build the trained network; raises SettingsError if there are no weights for this encoder."""
        super().__init__(encoder)
        with as_file(WEIGHTS / f"{self.organ}-{encoder.name}.safetensors") as path:
            if not path.is_file():
                found = f"'{self.organ}' has not been learnt for the encoder {encoder.name}"
                raise SettingsError(
                    "region", found, f"paint the {self.organ} of 20 normals and give the FOLDER of masks"
                )
            self.load_state_dict(load_file(path))
