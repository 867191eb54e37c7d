"""Build ``sample/``, the small real data set of the demo, from a folder of chest X-rays at 224 x 224.

    python scripts/make_sample.py CHEST_XRAY_224 CHEST_LUNGS --out sample --seed 0

One image a patient, no patient and no image in two splits, files copied byte for byte; the seed decides which. Masks of
the lungs exist for images of the published train split alone, so the split val is drawn from those.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from aeflow.data.records import Record, read_records
from aeflow.data.splits import leave_out_patients

COUNTS = {  # split, kind -> images
    ("test", "normal"): 100,
    ("test", "bacteria"): 50,
    ("test", "virus"): 50,
    ("train", "normal"): 300,
    ("train", "bacteria"): 20,
    ("train", "virus"): 20,
}
WITH_LUNGS = {"normal": 40, "bacteria": 20, "virus": 20}  # kind -> images of the split val, of which each has a mask
SPLITS = ("train", "val", "test")

README = """# Chest X-rays for the demo and the tests

{table}

A random selection (seed {seed}) from the paediatric chest X-rays of

> Daniel Kermany, Kang Zhang, Michael Goldbaum: *Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images for
> Classification*. Mendeley Data, V2, 2018. [doi:10.17632/rscbjbr9sj.2](https://doi.org/10.17632/rscbjbr9sj.2)

under the licence [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/). Changes: the preparers of the copy used
here resized the images to 224 x 224 pixels and saved them as JPEG; this folder holds a part of them, unchanged since.

Each patient gives one image; train and test of the published split are kept, and no patient is in two splits. The
split val is drawn from patients of the published train split who are in neither of the others. Test normals differ from
train normals in scanner, size and crop, as in the whole set. The numbers are too small for claims about accuracy: the
sample shows that the software works.

`{{train,val}}/region/` holds masks of the lungs, where pneumonia can be: white is lung, the part behind the heart
included. {train_masks} train images have one, and all of val; images of the published test split have none.
They are from

> V7 Labs: *COVID-19 X-ray dataset*, 2020, lungs drawn and reviewed by people.
> [github.com/v7labs/covid-19-xray-dataset](https://github.com/v7labs/covid-19-xray-dataset)

under the licence [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/). Changes: the outlines were filled and
resized to 224 x 224 pixels, and areas marked "ignore" taken out.

`manifest.csv` lists path, split, label (0 normal, 1 abnormal), patient, mask of the lungs, and the kind of pneumonia.
`scripts/make_sample.py` builds this folder again, byte for byte.
"""


def choose(records: Sequence[Record], count: int, rng: random.Random, seen: set[str]) -> list[Record]:
    """Choose ``count`` records of different patients, of bytes and patients not ``seen`` yet, and add them there."""
    chosen: list[Record] = []
    for record in rng.sample(records, len(records)):
        keys = {record.patient, hashlib.sha256(record.path.read_bytes()).hexdigest()}
        if len(chosen) < count and not keys & seen:
            seen |= keys
            chosen.append(record)
    if len(chosen) < count:
        raise SystemExit(f"only {len(chosen)} of {count} images with patients of their own")
    return chosen


def copy(file: Path, target: Path) -> None:
    """Copy a file byte for byte, and make the folder for it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


def main() -> None:
    """Choose the images and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("lungs", type=Path)
    parser.add_argument("--out", type=Path, default=Path("sample"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    records = read_records(options.source)
    test_patients = {record.patient for record in records if record.split == "test"}
    records = [r for r in records if r.split == "test"] + leave_out_patients(
        [r for r in records if r.split == "train"], test_patients
    )
    rng, seen = random.Random(options.seed), set[str]()
    chosen: list[Record] = []
    for (split, kind), count in COUNTS.items():
        chosen += choose([r for r in records if (r.split, r.kind) == (split, kind)], count, rng, seen)
    masks = {record.path: options.lungs / Path(record.name).with_suffix(".png") for record in records}
    masks = {path: mask for path, mask in masks.items() if mask.exists()}
    chosen = [replace(record, region=masks.get(record.path)) for record in chosen]
    with_lungs = [r for r in records if r.path in masks]
    for kind, count in WITH_LUNGS.items():
        found = choose([r for r in with_lungs if r.kind == kind], count, rng, seen)
        chosen += [replace(r, split="val", name=f"val/{r.name.split('/', 1)[1]}", region=masks[r.path]) for r in found]
    chosen.sort(key=lambda record: (SPLITS.index(record.split or ""), record.label, record.name))

    options.out.mkdir(parents=True)  # a folder that exists could mix two selections
    with (options.out / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "split", "label", "patient", "region", "kind"])
        for record in chosen:
            shown = record.kind if record.label else ""
            mask = f"{record.split}/region/{record.path.stem}.png" if record.region else ""
            writer.writerow([record.name, record.split, record.label, record.patient, mask, shown])
            copy(record.path, options.out / record.name)
            if record.region:
                copy(record.region, options.out / mask)
    rows = [
        f"| {split} | {sum((r.split, r.label) == (split, 0) for r in chosen)} "
        f"| {sum((r.split, r.label) == (split, 1) for r in chosen)} |"
        for split in SPLITS
    ]
    table = "\n".join(["| split | normal | abnormal (half bacterial, half viral pneumonia) |", "|---|---|---|", *rows])
    train_masks = sum(record.split == "train" and record.region is not None for record in chosen)
    text = README.format(table=table, seed=options.seed, train_masks=train_masks)
    (options.out / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
