"""Anomaly maps of volumes, and of series of DICOM slices, as NIfTI volumes that lie where these lie."""

from aeflow.results.nifti.folder import NiftiFolder

__all__ = ["NiftiFolder"]
