"""DICOM out: what a model found in a DICOM image as a Parametric Map, an overlay and a Structured Report."""

from aeflow.results.dicom.identifiers import ModelIdentity, Result
from aeflow.results.dicom.writer import Writer, write_results

__all__ = ["ModelIdentity", "Result", "Writer", "write_results"]
