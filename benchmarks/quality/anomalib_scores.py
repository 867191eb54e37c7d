"""anomalib's FastFlow, PaDiM and PatchCore on given images; imports no aeflow, started by ``benchmarks.quality``.

    ENV/bin/python -m benchmarks.quality.anomalib_scores TASK.json

How to make ENV, and how the embedded encoder is given to anomalib: see ``anomalib_models.py``. TASK.json names the
``kind``, the ``settings``, the ``seed``, the folders ``train`` and ``test`` of images, and the folder ``out``, where
``scores.npy``, ``maps.npy`` (float32, in the order of the names) and ``seconds.json`` are left. Scores and maps are the
model's own: no post-processor, which would clamp them.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from anomalib.data import Folder, PredictDataset
from anomalib.engine import Engine
from lightning import seed_everything
from torch.utils.data import DataLoader

from benchmarks.anomalib_models import model_of

BATCH = 32  # its default
OPTIONS = {"n_features": "n_features", "coreset": "coreset_sampling_ratio"}  # settings, as its models name them


def main() -> None:
    """Fit and score as the task says."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    task = json.loads(Path(sys.argv[1]).read_text())
    out, settings = Path(task["out"]), task["settings"]
    seed_everything(task["seed"])
    with tempfile.TemporaryDirectory() as root:
        epochs = {"max_epochs": settings["epochs"]} if "epochs" in settings else {}
        engine = Engine(default_root_dir=root, **epochs)
        data = Folder(
            name="peer", normal_dir=task["train"], test_split_mode="none", val_split_mode="none", num_workers=2
        )
        data.setup()
        own = {OPTIONS[name]: value for name, value in settings.items() if name in OPTIONS}
        model = model_of(task["kind"].lower(), post_processor=False, visualizer=False, **own)
        tic = time.perf_counter()
        engine.fit(model, train_dataloaders=data.train_dataloader())
        trained, tic = time.perf_counter() - tic, time.perf_counter()
        images = PredictDataset(task["test"])
        loader = DataLoader(images, BATCH, num_workers=2, collate_fn=images.collate_fn)
        found = engine.predict(model=model, dataloaders=loader)
        seconds = time.perf_counter() - tic
    names = [Path(path).name for batch in found for path in batch.image_path]
    order = np.argsort(names)
    scores = torch.cat([batch.pred_score.flatten() for batch in found]).float().cpu().numpy()
    maps = torch.cat([batch.anomaly_map.reshape(-1, *batch.anomaly_map.shape[-2:]) for batch in found]).float()
    np.save(out / "scores.npy", scores[order])
    np.save(out / "maps.npy", maps.cpu().numpy()[order])
    (out / "seconds.json").write_text(json.dumps({"train_seconds": trained, "score_seconds": seconds}))


if __name__ == "__main__":
    main()
