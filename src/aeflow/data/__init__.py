"""Records of images, their splits and their loading as pixels; all but imageio, model and calibration may import it."""

from aeflow.data.preprocess import preprocess, preprocess_mask
from aeflow.data.records import Record, find_images, of_label, read_records
from aeflow.data.splits import hold_out, leave_out_patients, shared_patients, split_by_patient
from aeflow.imageio.image import Image
from aeflow.imageio.limits import Limits
from aeflow.imageio.reader import read_image, read_mask

__all__ = [
    "Image",
    "Limits",
    "Record",
    "find_images",
    "hold_out",
    "leave_out_patients",
    "of_label",
    "preprocess",
    "preprocess_mask",
    "read_image",
    "read_mask",
    "read_records",
    "shared_patients",
    "split_by_patient",
]
