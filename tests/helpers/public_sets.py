"""Public data sets in miniature: the folders and file names of their downloads, with tiny images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from helpers.data import texture
from helpers.dicom_files import content, dataset
from helpers.nifti_files import nifti

SQUARE = np.zeros((64, 64), np.uint8)
SQUARE[20:30, 20:30] = 255
_seed = iter(range(10_000))


def put(path: Path, pixels: np.ndarray | None = None) -> None:
    """Write an image that differs from all others, in the format of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(texture(next(_seed)) if pixels is None else pixels).save(path)


def write_dicom(path: Path) -> None:
    path.write_bytes(content(dataset(texture(next(_seed)), PatientID=path.stem)))


def chest_xray(root: Path) -> None:
    """Write a set of which two train pneumonias are of a patient of the test; an archive's own leftovers lie about."""
    for i in range(6):
        put(root / f"chest_xray/train/NORMAL/IM-{i:04}-0001.jpeg")
        put(root / f"chest_xray/train/PNEUMONIA/person{i}_{('bacteria', 'virus')[i % 2]}_{i}.jpeg")
    put(root / "chest_xray/train/PNEUMONIA/person2_virus_77.jpeg")
    put(root / "chest_xray/val/NORMAL/NORMAL2-IM-1427-0001.jpeg")
    put(root / "chest_xray/val/PNEUMONIA/person90_bacteria_1.jpeg")
    for i in range(4):
        put(root / f"chest_xray/test/NORMAL/NORMAL2-IM-{i:04}-0001.jpeg")
        put(root / f"chest_xray/test/PNEUMONIA/person{2 + 100 * i}_virus_{i}.jpeg")
    (root / "chest_xray/train/NORMAL/.DS_Store").write_bytes(b"x")
    put(root / "__MACOSX/chest_xray/train/NORMAL/IM-0000-0001.jpeg")


def oct2017(root: Path) -> None:
    for split, n in (("train", 3), ("test", 2), ("val", 1)):
        for k, name in enumerate(("CNV", "DME", "DRUSEN", "NORMAL")):
            for i in range(n):
                number = 1000 * ("train", "test", "val").index(split) + 100 * k + i
                put(root / f"OCT2017/{split}/{name}/{name}-{number}-{i + 1}.jpeg")


def isic2018(root: Path) -> None:
    """Write the first part's table in a folder of its own, as its archive has it; the second part's beside."""
    kinds = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
    head = ",".join(("image", *kinds))
    for part, chosen in (("Training", ("NV", "NV", "NV", "MEL", "DF")), ("Validation", ("NV", "BCC"))):
        lines = [head]
        for i, kind in enumerate(chosen):
            image = f"ISIC_{len(part)}{i:06}"
            put(root / f"ISIC2018_Task3_{part}_Input/{image}.jpg")
            lines.append(",".join((image, *(str(float(kind == one)) for one in kinds))))
        stem = f"ISIC2018_Task3_{part}_GroundTruth"
        table = root / stem / f"{stem}.csv" if part == "Training" else root / f"{stem}.csv"
        table.parent.mkdir(exist_ok=True)
        table.write_text("\n".join(lines) + "\n")
    (root / "ISIC2018_Task3_Training_Input/LICENSE.txt").write_text("terms")
    groups = ["image,lesion_id,diagnosis_confirm_type", *(f"ISIC_8{i:06},HAM_{i // 2},histo" for i in range(5))]
    (root / "ISIC2018_Task3_Training_LesionGroupings.csv").write_text("\n".join(groups) + "\n")


def brats2021(root: Path) -> None:
    """Write volumes of 48 x 40 x 110 voxels of 1 mm, a tumour in the axial slices 62 to 81, no head above 90."""
    for case in range(5):
        folder = root / f"BraTS2021_{case:05}"
        folder.mkdir(parents=True)
        rng = np.random.default_rng(case)
        flair = rng.integers(1, 900, (48, 40, 110)).astype(np.int16)
        flair[..., 91:] = 0
        seg = np.zeros(flair.shape, np.uint8)
        seg[10:20, 10:20, 62:82] = 4
        for what, voxels in (("flair", flair), ("seg", seg)):
            content = nifti(voxels, np.diag([1.0, 1.0, 1.0]), zipped=True)
            (folder / f"{folder.name}_{what}.nii.gz").write_bytes(content)


def lgg_mri(root: Path) -> None:
    for i in range(5):
        patient = f"TCGA_CS_{4940 + i}_19960909"
        for n in range(1, 5):
            put(root / f"kaggle_3m/{patient}/{patient}_{n}.tif", np.stack([texture(next(_seed))] * 3, axis=-1))
            put(root / f"kaggle_3m/{patient}/{patient}_{n}_mask.tif", SQUARE if n == 2 else 0 * SQUARE)
    (root / "kaggle_3m/data.csv").write_text("Patient\n")


def brain_tumor_mri(root: Path) -> None:
    for split, short, n in (("Training", "Tr", 3), ("Testing", "Te", 2)):
        for name in ("notumor", "glioma", "meningioma", "pituitary"):
            for i in range(n):
                put(root / f"{split}/{name}/{short}-{name[:2]}_{i:04}.jpg")


def rsna_pneumonia(root: Path) -> None:
    lines = ["patientId,class"]
    (root / "stage_2_train_images").mkdir(parents=True)
    for i in range(30):
        name = ("Normal", "Lung Opacity", "No Lung Opacity / Not Normal")[i % 3]
        write_dicom(root / f"stage_2_train_images/{i:08x}.dcm")
        lines += [f"{i:08x},{name}"] * (2 if name == "Lung Opacity" else 1)
    (root / "stage_2_detailed_class_info.csv").write_text("\n".join(lines) + "\n")


def vinbigdata(root: Path) -> None:
    lines = ["image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"]
    (root / "train").mkdir(parents=True)
    for i in range(10):
        write_dicom(root / f"train/{i:08x}.dicom")
        for reader in range(3):
            sick = i % 3 == 0 and reader == 1
            lines.append(f"{i:08x},{'Nodule/Mass' if sick else 'No finding'},0,R{reader},,,,")
    (root / "train.csv").write_text("\n".join(lines) + "\n")


def bmad(root: Path) -> None:
    for split, first in (("train", 0), ("valid", 10), ("test", 20)):
        for i in range(first, first + 3):
            put(root / f"Brain/{split}/good/img/{i:05}_60.png")
            if split != "train":
                put(root / f"Brain/{split}/Ungood/img/{i:05}_75.png")
                put(root / f"Brain/{split}/Ungood/label/{i:05}_75.png", SQUARE)


def mvtec(root: Path) -> None:
    for i in range(3):
        put(root / f"bottle/train/good/{i:03}.png")
        put(root / f"bottle/test/good/{i:03}.png")
        put(root / f"bottle/test/broken/{i:03}.png")
        put(root / f"bottle/ground_truth/broken/{i:03}_mask.png", SQUARE)
