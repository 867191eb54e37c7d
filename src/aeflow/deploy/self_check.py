"""Check of an installation: what a score needs of this machine is tried once, in a second or two.

Tiny images that come with the package are decoded, in a decoder's process and by each library that decodes; a small
graph is run, and a file is written. So a package that is missing or half installed, a native library that cannot be
loaded and a folder for temporary files that is full or read-only show before a patient's image meets them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from aeflow._types import Floats32
from aeflow.backends.openvino import openvino
from aeflow.errors import AeflowError
from aeflow.imageio.decoder_pool import Decoders
from aeflow.imageio.errors import ImageError
from aeflow.imageio.reader import read_image
from aeflow.runtime.one_file import unpacked

# Each file is an image whose values are ``VALUES``; ``scripts/make_check_images.py`` makes them.
FILE = Path(__file__).with_name("check_images.zip")
IMAGES = {
    "image.png": "PNG",
    "jpeg-lossless.dcm": "lossless JPEG",
    "jpeg-ls.dcm": "JPEG-LS",
    "jpeg-2000.dcm": "JPEG 2000",
}
VALUES = np.add.outer(3 * np.arange(64), np.arange(64)).astype(np.uint8)
PACKAGES = (  # of the base, by the names they are imported by
    "safetensors",
    "openvino",
    "numpy",
    "PIL",
    "pydicom",
    "gdcm",
    "jpeg_ls",
    "openjpeg",
    "nibabel",
    "highdicom",
    "typer",
    "rich",
    "pydantic",
    "platformdirs",
)
REMEDY_INSTALL = "install aeflow again, or see what the system lacks"


def self_check(run: Path | None = None) -> Iterator[tuple[str, str]]:
    """Yield what works as pairs of words, one after another; raises AeflowError for the first that does not.

    With a ``run`` or an export that is opened as well, which runs it on its test images.
    """
    steps: dict[str, Callable[[], str]] = {"packages": _packages, "reads": _reads, "runs": _runs}
    for name, step in steps.items():
        try:
            yield name, step()
        except AeflowError:
            raise
        except Exception as error:  # what a broken installation raises has no base in common
            raise AeflowError(f"check, {name}", f"{type(error).__name__}: {error}", REMEDY_INSTALL) from error
    if run is not None:
        from aeflow.deploy.open_model import open_model  # half a second that the rest does not need

        scorer = open_model(run)
        yield "model", f"{scorer.fingerprint[:12]} scores its test images as it should, with {scorer.backend.name}"


def _packages() -> str:
    """Return how many packages are there."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise AeflowError("check, packages", f"not installed: {', '.join(missing)}", REMEDY_INSTALL)
    return f"all {len(PACKAGES)} are there"


def _reads() -> str:
    """Write the images as files, and read each in a decoder's process."""
    with tempfile.TemporaryDirectory() as folder, Decoders(workers=1) as decoders:
        for name, content in unpacked(FILE, IMAGES).items():
            (Path(folder) / name).write_bytes(content)
        reading = {name: decoders.submit(read_image, Path(folder) / name) for name in IMAGES}
        for name, image in reading.items():
            try:
                pixels = image.result().pixels
            except ImageError as error:
                raise AeflowError("check", f"{IMAGES[name]} is not decoded: {error.found}", REMEDY_INSTALL) from error
            _compare(f"{IMAGES[name]} is decoded otherwise", pixels, (VALUES / 255).astype(np.float32))
        return f"{', '.join(IMAGES.values())}, from {tempfile.gettempdir()}"


def _runs() -> str:
    """Compile a small graph, and run it."""
    ov, ops = openvino(), import_module("openvino.opset13")
    x, weights = VALUES.astype(np.float32), np.eye(64, dtype=np.float32)[::-1].copy()
    pixels = ops.parameter([64, 64], np.float32)
    model = ov.Model([ops.relu(ops.matmul(ops.constant(weights), pixels, False, False))], [pixels])
    _compare("a graph gives other values", ov.Core().compile_model(model, "CPU")(x)[0], x[::-1])
    return f"a graph with OpenVINO {ov.__version__.partition('-')[0]}"


def _compare(otherwise: str, got: Floats32, want: Floats32) -> None:
    """Raise AeflowError unless two arrays are alike."""
    if got.shape != want.shape or not np.allclose(got, want, atol=1e-3):
        raise AeflowError("check", otherwise, REMEDY_INSTALL)
