"""DICOM -> images in [0, 1], by pydicom; the rules stand in ``reader``."""

from aeflow.imageio.dicom.reader import dataset, directory, header, is_dicom, read

__all__ = ["dataset", "directory", "header", "is_dicom", "read"]
