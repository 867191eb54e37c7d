"""Known public data sets: layouts and counts as their pages and papers give them.

A count that no source confirms is left out, and is then not checked.
"""

from __future__ import annotations

import re

from aeflow.datasets import from_folders, from_tables, from_volumes
from aeflow.datasets.from_folders import ClassFolders
from aeflow.datasets.recipe import Recipe, Release

KERMANY = (
    "Kermany D, Zhang K, Goldbaum M: Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images for "
    "Classification. Mendeley Data, 2018, doi:10.17632/rscbjbr9sj. "
    "Kermany D et al.: Identifying Medical Diagnoses and Treatable Diseases by Image-Based Deep Learning. Cell, 2018"
)
DRAWN = "none is published: a fifth for the test, whole patients, drawn by a hash, so everybody gets the same"
NO_PATIENTS = "the file names do not say which images are of one patient, so a patient may be on both sides"


def _oct(normal: int, test: int, val: int) -> dict[tuple[str, str], int]:
    """Return the counts of a release of OCT2017."""
    train = {"CNV": 37205, "DME": 11348, "DRUSEN": 8616, "normal": normal}
    counts = {("train", name): n for name, n in train.items()}
    counts |= {("test", name): test for name in train}
    return counts | ({("val", name): val for name in train} if val else {})


RECIPES: dict[str, Recipe] = {
    "chest_xray": Recipe(
        title="Chest X-Ray Images (Pneumonia), Kermany et al. 2018",
        modality="chest X-ray, children",
        url="https://data.mendeley.com/datasets/rscbjbr9sj",
        licence="CC BY 4.0",
        citation=KERMANY,
        split="as published",
        needs=("train/NORMAL", "train/PNEUMONIA", "test/NORMAL", "test/PNEUMONIA"),
        records=ClassFolders(
            {"train": "train", "val": "val", "test": "test"},
            {"NORMAL": "normal", "PNEUMONIA": None},
            re.compile(r"(?P<patient>person\d+|(?:NORMAL2-)?IM-\d+)(?:_(?P<kind>bacteria|virus))?"),
        ),
        releases=(
            Release(
                "Kaggle, chest-xray-pneumonia",
                {
                    ("train", "normal"): 1341,
                    ("train", "abnormal"): 3875,
                    ("val", "normal"): 8,
                    ("val", "abnormal"): 8,
                    ("test", "normal"): 234,
                    ("test", "abnormal"): 390,
                },
            ),
            Release(
                "Mendeley Data",
                {
                    ("train", "normal"): 1349,
                    ("train", "abnormal"): 3883,
                    ("test", "normal"): 234,
                    ("test", "abnormal"): 390,
                },
            ),
        ),
    ),
    "oct2017": Recipe(
        title="OCT2017, Kermany et al. 2018",
        modality="retinal OCT",
        url="https://data.mendeley.com/datasets/rscbjbr9sj",
        licence="CC BY 4.0",
        citation=KERMANY,
        split="as published",
        needs=tuple(f"{split}/{name}" for split in ("train", "test") for name in ("CNV", "DME", "DRUSEN", "NORMAL")),
        records=ClassFolders(
            {"train": "train", "val": "val", "test": "test"},
            {"NORMAL": "normal", "CNV": "CNV", "DME": "DME", "DRUSEN": "DRUSEN"},
            re.compile(r"[A-Z]+-(?P<patient>\d+)-\d+"),
        ),
        releases=(
            Release("version 2, and Kaggle's kermany2018", _oct(26315, 242, 8)),
            Release("version 3", _oct(51140, 250, 0)),
        ),
    ),
    "isic2018": Recipe(
        title="ISIC 2018 task 3 (HAM10000), nevi as normal",
        modality="dermoscopy",
        url="https://challenge.isic-archive.com/data/#2018",
        licence="CC BY-NC 4.0",
        citation=(
            "Codella N et al.: Skin Lesion Analysis Toward Melanoma Detection 2018. arXiv:1902.03368. Tschandl P, "
            "Rosendahl C, Kittler H: The HAM10000 dataset. Scientific Data 5, 180161, 2018"
        ),
        split="as in the AE-FLOW paper: the challenge's training images, and its validation images as the test",
        needs=("ISIC2018_Task3_Training_Input", "ISIC2018_Task3_Validation_Input", "ISIC2018_Task3_*_GroundTruth*"),
        records=from_tables.isic2018,
        releases=(
            Release(
                "ISIC 2018 task 3",
                {
                    ("train", "normal"): 6705,
                    ("train", "MEL"): 1113,
                    ("train", "BKL"): 1099,
                    ("train", "BCC"): 514,
                    ("train", "AKIEC"): 327,
                    ("train", "VASC"): 142,
                    ("train", "DF"): 115,
                    ("test", "normal"): 123,
                    ("test", "abnormal"): 70,
                },
            ),
        ),
        note="images of one lesion count as one patient where ISIC2018_Task3_Training_LesionGroupings.csv is there",
    ),
    "brats2021": Recipe(
        title="BraTS 2021 task 1, FLAIR slices without and with tumour",
        modality="brain MRI",
        url="https://www.synapse.org/#!Synapse:syn25829067",
        licence="what you agreed to at registration",
        citation=(
            "Baid U et al.: The RSNA-ASNR-MICCAI BraTS 2021 Benchmark. arXiv:2107.02314. Menze B et al.: IEEE Trans "
            "Med Imaging 34, 2015. Bakas S et al.: Scientific Data 4, 170117, 2017"
        ),
        split=DRAWN,
        needs=("BraTS2021_*",),
        records=from_volumes.cases,
        releases=(Release("training cases", {("", "volume"): 1251}),),
        write=from_volumes.write_slices,
        note="axial slices 60, 65 ... 100; which ones the AE-FLOW paper took could not be confirmed",
    ),
    "lgg_mri": Recipe(
        title="LGG MRI Segmentation (TCGA-LGG), Buda et al. 2019",
        modality="brain MRI",
        url="https://www.kaggle.com/datasets/mateuszbuda/lgg-mri-segmentation",
        licence="CC BY-NC-SA 4.0",
        citation=(
            "Buda M, Saha A, Mazurowski M: Association of genomic subtypes of lower-grade gliomas with shape features "
            "automatically extracted by a deep learning algorithm. Computers in Biology and Medicine 109, 2019"
        ),
        split=DRAWN,
        needs=("TCGA_*",),
        records=from_folders.masks_beside,
        releases=(Release("Kaggle", {("", "normal"): 2556, ("", "abnormal"): 1373}),),
    ),
    "brain_tumor_mri": Recipe(
        title="Brain Tumor MRI Dataset, Nickparvar",
        modality="brain MRI",
        url="https://www.kaggle.com/datasets/masoudnickparvar/brain-tumor-mri-dataset",
        licence="as the page says",
        citation="Nickparvar M: Brain Tumor MRI Dataset. Kaggle, 2021",
        split="as published",
        needs=("Training/notumor", "Training/glioma", "Testing/notumor", "Testing/glioma"),
        records=ClassFolders(
            {"Training": "train", "Testing": "test"},
            {"notumor": "normal", "glioma": "glioma", "meningioma": "meningioma", "pituitary": "pituitary"},
        ),
        releases=(
            Release(
                "Kaggle, 7,023 images",
                {
                    ("train", "normal"): 1595,
                    ("train", "glioma"): 1321,
                    ("train", "meningioma"): 1339,
                    ("train", "pituitary"): 1457,
                    ("test", "normal"): 405,
                    ("test", "glioma"): 300,
                    ("test", "meningioma"): 306,
                    ("test", "pituitary"): 300,
                },
            ),
        ),
        note=f"{NO_PATIENTS}; its normals come from another source than its tumours: audit it",
    ),
    "rsna_pneumonia": Recipe(
        title="RSNA Pneumonia Detection Challenge 2018, training images",
        modality="chest X-ray",
        url="https://www.kaggle.com/c/rsna-pneumonia-detection-challenge",
        licence="the rules of the challenge",
        citation=(
            "Shih G et al.: Augmenting the National Institutes of Health Chest Radiograph Dataset with Expert "
            "Annotations of Possible Pneumonia. Radiology: Artificial Intelligence 1, 2019"
        ),
        split=DRAWN,
        needs=("stage_2_train_images", "stage_2_detailed_class_info.csv"),
        records=from_tables.rsna,
        releases=(Release("stage 2", {("", "normal"): 8851, ("", "lung opacity"): 6012, ("", "other"): 11821}),),
        note=NO_PATIENTS,
    ),
    "vinbigdata": Recipe(
        title="VinBigData Chest X-ray Abnormalities Detection (VinDr-CXR), training images",
        modality="chest X-ray",
        url="https://www.kaggle.com/c/vinbigdata-chest-xray-abnormalities-detection",
        licence="the rules of the challenge",
        citation="Nguyen H et al.: VinDr-CXR. Scientific Data 9, 429, 2022, doi:10.1038/s41597-022-01498-w",
        split=DRAWN,
        needs=("train", "train.csv"),
        records=from_tables.vinbigdata,
        releases=(Release("Kaggle", {("", "normal"): 10606, ("", "abnormal"): 4394}),),
        note=NO_PATIENTS,
    ),
    "bmad": Recipe(
        title="BMAD, one of its six sets (Brain, Liver, Retina_RESC, Retina_OCT2017, Chest, Histopathology)",
        modality="MRI, CT, OCT, X-ray, microscopy",
        url="https://github.com/DorisBao/BMAD",
        licence="CC BY-NC-SA 4.0",
        citation="Bao J et al.: BMAD: Benchmarks for Medical Anomaly Detection. CVPR Workshops, 2024, arXiv:2306.11876",
        split="as published",
        needs=("train/good", "test/good", "test/Ungood"),
        records=from_folders.bmad,
        note="numbers before an underscore in a file name are taken for the patient",
    ),
    "mvtec": Recipe(
        title="One category in the layout of MVTec AD, which many sets follow",
        modality="any",
        url="https://www.mvtec.com/company/research/datasets/mvtec-ad",
        licence="of MVTec AD itself CC BY-NC-SA 4.0; of others as their page says",
        citation="Bergmann P et al.: MVTec AD. CVPR 2019",
        split="as published",
        needs=("train/good", "test/good"),
        records=from_folders.mvtec,
    ),
}
