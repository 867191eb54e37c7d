"""Files -> records, pixels and splits; knows no model."""

from aeflow.data.image import Image
from aeflow.data.limits import Limits
from aeflow.data.preprocess import preprocess, preprocess_mask
from aeflow.data.read import read_image, read_mask
from aeflow.data.records import Record, find_images, of_label, read_records
from aeflow.data.split import hold_out, leave_out_patients, shared_patients, split_by_patient

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
