"""anomalib's FastFlow, PaDiM and PatchCore as their users start them; ``benchmarks.speed`` starts it.

    ENV/bin/python -m benchmarks.speed.anomalib_speed fit fastflow padim patchcore --images FOLDER --models M --out F
    ENV/bin/python -m benchmarks.speed.anomalib_speed predict fastflow --images FOLDER --models M --out F

How to make ENV: see ``benchmarks/anomalib_models.py``. It imports no aeflow. ``predict`` without ``--batch-size`` is
``Engine.predict(data_path=...)``: batches of one, no workers, a picture of each image written. With it, a loader is
handed over, and no pictures are written: the fastest that its interface offers.
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

import torch
from anomalib.data import Folder, PredictDataset
from anomalib.engine import Engine
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from benchmarks.anomalib_models import SIZE, model_of


class Epochs(Callback):  # type: ignore[misc]  # lightning is in another environment
    """Recorder of when each epoch began and ended, and each of its steps with its images."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        self.seen.append({"start": time.perf_counter(), "steps": []})

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self.seen[-1]["steps"].append((time.perf_counter(), len(batch.image)))

    def on_train_epoch_end(self, *_: Any) -> None:
        self.seen[-1]["end"] = time.perf_counter()

    def seconds(self) -> list[dict[str, float]]:
        """Return for each epoch the seconds an image once it runs, and the seconds that do not depend on the images."""
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
    """Score a folder; return the images, the seconds and the pictures written."""
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
    """Fit or score with each model that the command line names."""
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
