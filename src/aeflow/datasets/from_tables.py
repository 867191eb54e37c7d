"""Public data sets whose tables name the class of an image."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from aeflow.data.records import Record
from aeflow.data.table import read_table
from aeflow.datasets.recipe import entry
from aeflow.errors import DataError, count

REMEDY_DOWNLOAD = "download it again"


def rows(path: Path, *columns: str) -> list[dict[str, str]]:
    """Return the rows of a table; DataError if it cannot be read or lacks one of ``columns``."""
    return [row.values for row in read_table(path, columns, remedy=REMEDY_DOWNLOAD).rows]


def isic2018(root: Path) -> list[Record]:
    """Return the records of ISIC 2018 task 3; nevi are normal, and images of one lesion count as one patient.

    ``ISIC2018_Task3_PART_Input/`` and its ground truth.
    """
    lesions = {}
    for table in root.glob("ISIC2018_Task3_Training_LesionGroupings.csv"):
        lesions = {row["image"]: row["lesion_id"] for row in rows(table, "image", "lesion_id")}
    records = []
    for part, split in {"Training": "train", "Validation": "test"}.items():
        stem = f"ISIC2018_Task3_{part}_GroundTruth"
        table = root / stem / f"{stem}.csv"
        kinds = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
        for row in rows(table if table.exists() else root / f"{stem}.csv", "image", *kinds):
            path = root / f"ISIC2018_Task3_{part}_Input" / f"{row['image']}.jpg"
            marked = [kind for kind in kinds if row[kind] in ("1", "1.0")]
            if len(marked) != 1:
                raise DataError(table, f"a row that names {count(len(marked), 'class', 'classes')}", REMEDY_DOWNLOAD)
            label, kind = (0, None) if marked == ["NV"] else (1, marked[0])
            records.append(entry(root, path, split, label, kind, lesions.get(row["image"])))
    return records


def rsna(root: Path) -> list[Record]:
    """Return the records of ``stage_2_train_images/ID.dcm`` by ``stage_2_detailed_class_info.csv``, one row a box."""
    classes = {"Normal": None, "Lung Opacity": "lung opacity", "No Lung Opacity / Not Normal": "other"}
    table = root / "stage_2_detailed_class_info.csv"
    found = {row["patientId"]: row["class"] for row in rows(table, "patientId", "class")}
    if unknown := sum(name not in classes for name in found.values()):
        raise DataError(table, f"{count(unknown, 'image')} of an unknown class", REMEDY_DOWNLOAD)
    return [
        entry(root, root / "stage_2_train_images" / f"{image}.dcm", None, int(name != "Normal"), classes[name])
        for image, name in sorted(found.items())
    ]


def vinbigdata(root: Path) -> list[Record]:
    """Return the records of ``train/ID.dicom`` by ``train.csv``; normal if no reader found anything.

    The table has one row for each finding and reader.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows(root / "train.csv", "image_id", "class_name"):
        found[row["image_id"]].add(row["class_name"])
    return [
        entry(root, root / "train" / f"{image}.dicom", None, int(names != {"No finding"}))
        for image, names in sorted(found.items())
    ]
