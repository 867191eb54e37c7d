"""DICOM results of a scored DICOM image: a Parametric Map, an overlay and a Structured Report."""

from aeflow.results.dicom.identifiers import ModelIdentity, Result
from aeflow.results.dicom.writer import DicomFolder, write_results

__all__ = ["DicomFolder", "ModelIdentity", "Result", "write_results"]
