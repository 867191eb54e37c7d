"""DICOM out: what a model found in a DICOM image as a Parametric Map, an overlay and a Structured Report."""

from aeflow.dicom_out.identity import Maker, Result
from aeflow.dicom_out.write import Writer, write_results

__all__ = ["Maker", "Result", "Writer", "write_results"]
