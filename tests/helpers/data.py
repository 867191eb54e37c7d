"""A synthetic data set of smooth textures and lesions, and the settings of a model small enough for a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from aeflow.config import Settings, make_settings

SIZE = 64
NORMALS = 100  # of ``recalibrated_run``
TINY = "test_efficientnet"  # a network of timm, made for tests
ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "sample"


def small_settings(**changes: object) -> Settings:
    """Return the default preset, small enough for a test."""
    small = {"image_size": SIZE, "hidden": 16, "flow_steps": 2, "epochs": 3, "batch_size": 8}
    return make_settings(**{**small, **changes})


def texture(seed: int) -> np.ndarray:
    """Return a smooth random image (64, 64) in [0, 255]."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((SIZE, SIZE)), 4)
    return np.clip(110 + 55 * noise / noise.std(), 0, 255).astype(np.uint8)


def lesion(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a texture with a noisy bright square, and the mask of it."""
    image, mask = texture(seed), np.zeros((SIZE, SIZE), bool)
    rng = np.random.default_rng(seed)
    y, x = rng.integers(4, SIZE - 28, 2)
    mask[y : y + 24, x : x + 24] = True
    image[mask] = rng.integers(120, 256, mask.sum())
    return image, mask


def write_data(root: Path, train: int = 40, test: int = 12) -> Path:
    """Write a data folder with normals, abnormals and masks; two images a patient in train."""
    rows = ["path,split,label,patient,mask"]

    def put(pixels: np.ndarray, name: str) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)

    for i in range(train):
        put(texture(i), f"train/normal/{i:03}.png")
        rows.append(f"train/normal/{i:03}.png,train,0,p{i // 2},")
    for i in range(6):
        put(lesion(500 + i)[0], f"train/abnormal/{i:03}.png")
        rows.append(f"train/abnormal/{i:03}.png,train,1,a{i},")
    for i in range(test):
        put(texture(1000 + i), f"test/normal/{i:03}.png")
        rows.append(f"test/normal/{i:03}.png,test,0,t{i},")
        image, mask = lesion(2000 + i)
        put(image, f"test/abnormal/{i:03}.png")
        put(mask.astype(np.uint8) * 255, f"test/mask/{i:03}.png")
        rows.append(f"test/abnormal/{i:03}.png,test,1,u{i},test/mask/{i:03}.png")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root
