"""DICOM files as images in [0, 1], parsed by pydicom; the rules are in ``reader``."""

from aeflow.imageio.dicom.reader import dataset, directory, header, is_dicom, planes, read

__all__ = ["dataset", "directory", "header", "is_dicom", "planes", "read"]
