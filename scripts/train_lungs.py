"""Train the lungs' region for the encoders whose weights come with the package, from masks that people drew.

    python scripts/train_lungs.py CHEST_XRAY_224 CHEST_LUNGS

Whole patients, a fifth of them, are left out and give the figures in each file's header: the mean intersection over
union of normals and of pneumonias. The seed decides all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from aeflow.data.records import Record, read_records
from aeflow.model.encoder import Encoder
from aeflow.model.encoder_weights import WEIGHTS, pretrained
from aeflow.model.regions.learned import STRIDES, LearnedRegion
from aeflow.training.learn_region import learn_region
from aeflow.training.painted import read_painted, with_regions

SIZE = 224
COPIES, STEPS = 1700, 800
STAGES = (1, 2, 3)  # of EfficientNet-Lite, at STRIDES
FOLDER = Path(__file__).parents[1] / "src" / "aeflow" / "model" / "regions" / "weights"
ATTRIBUTION = (
    "Learnt from lung masks of V7 Labs' COVID-19 chest X-ray data set, CC BY 4.0, "
    "on chest X-rays of Kermany, Zhang and Goldbaum, doi:10.17632/rscbjbr9sj, CC BY 4.0"
)


def held_out(records: Sequence[Record], seed: int) -> list[bool]:
    """Return which records belong to the fifth of the patients that is left out."""
    patients = sorted({record.patient for record in records})
    order = torch.randperm(len(patients), generator=torch.Generator().manual_seed(seed)).tolist()
    left_out = {patients[i] for i in order[: len(patients) // 5]}
    return [record.patient in left_out for record in records]


@torch.no_grad()
def intersection_over_union(region: LearnedRegion, encoder: Encoder, images: Tensor, masks: Tensor) -> Tensor:
    """Return the intersection over union (n,) of predicted and painted regions, both cut at a half."""
    found = torch.cat([region(x, encoder) for x in torch.split(images, 32)]) > 0.5
    drawn = masks > 0.5
    return (found & drawn).sum(dim=(1, 2, 3)) / (found | drawn).sum(dim=(1, 2, 3))


def main() -> None:
    """Train, measure and write the weights of each encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    drawn = with_regions(read_records(options.images, "train"), options.masks)
    records, images, masks = read_painted(options.masks, drawn, SIZE)
    held = torch.tensor(held_out(records, options.seed))
    normal = torch.tensor([record.label == 0 for record in records])
    FOLDER.mkdir(exist_ok=True)
    for name in WEIGHTS:
        encoder = pretrained(name, STAGES)
        if tuple(encoder.strides) != STRIDES:
            raise SystemExit(f"stages {STAGES} of {name} are at strides {encoder.strides}")
        region = learn_region(images[~held], masks[~held], encoder, options.seed, COPIES, STEPS)
        overlap = intersection_over_union(region, encoder, images[held], masks[held])
        facts = {
            "attribution": ATTRIBUTION,
            "seed": options.seed,
            "train_normals": int((~held & normal).sum()),
            "train_pneumonias": int((~held & ~normal).sum()),
            "held_out_normals": int((held & normal).sum()),
            "held_out_pneumonias": int((held & ~normal).sum()),
            "iou_normals": round(float(overlap[normal[held]].mean()), 3),
            "iou_pneumonias": round(float(overlap[~normal[held]].mean()), 3),
        }
        metadata = {key: str(value) for key, value in facts.items()}
        save_file(region.state_dict(), FOLDER / f"lungs-{name}.safetensors", metadata)
        print(name, json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
