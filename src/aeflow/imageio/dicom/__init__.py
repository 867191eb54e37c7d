"""DICOM -> images in [0, 1], by pydicom; the rules stand in ``reader``."""

from aeflow.imageio.dicom.reader import directory, header, is_dicom, read

__all__ = ["directory", "header", "is_dicom", "read"]
