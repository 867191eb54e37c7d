"""SOP classes of DICOM objects that are no images."""

from __future__ import annotations

STORAGE = "1.2.840.10008.5.1.4.1.1."
DIRECTORY = "1.2.840.10008.1.3.10"
RADIOTHERAPY = STORAGE + "481"
RADIOTHERAPY_IMAGES = tuple(RADIOTHERAPY + part for part in (".1", ".23", ".24"))

# SOP class UIDs that begin with these components (DICOM part 4, table B.5-1); the first that fits names the kind.
KINDS = {
    DIRECTORY: "a directory of other files",
    STORAGE + "88.59": "a selection of key objects",
    STORAGE + "88": "a structured report",
    STORAGE + "104": "an encapsulated document (PDF, CDA or a 3D model)",
    STORAGE + "11": "a presentation state or a lookup table",
    STORAGE + "10": "a lookup table",
    STORAGE + "8": "an overlay without its image",
    STORAGE + "9": "a waveform or a curve",
    STORAGE + "129": "a curve",
    STORAGE + "4.2": "spectroscopy",
    STORAGE + "66.1": "a registration",
    STORAGE + "66.2": "a set of reference points",
    STORAGE + "66.3": "a registration",
    STORAGE + "66.4": "a segmentation",
    STORAGE + "66.5": "a segmentation",
    STORAGE + "66.6": "a tractography",
    STORAGE + "66": "raw data of a scanner",
    STORAGE + "67": "a mapping of values to units",
    STORAGE + "68": "a surface scan",
    STORAGE + "77.1.5.3": "a relation between two photographs",
    STORAGE + "78": "measurements of an eye",
    STORAGE + "79": "measurements of an eye",
    STORAGE + "80": "measurements of an eye",
    STORAGE + "90": "a content assessment",
    STORAGE + "91": "annotations of a slide",
    STORAGE + "131": "a display layout",
    STORAGE + "200": "a protocol",
    STORAGE + "201": "an inventory",
    RADIOTHERAPY + ".2": "a radiotherapy dose",
    RADIOTHERAPY + ".3": "a set of radiotherapy structures",
    RADIOTHERAPY: "a radiotherapy plan or record",
    "1.2.840.10008.5.1.4.34": "a radiotherapy instruction or a worklist",
    "1.2.840.10008.5.1.4.38": "a hanging protocol",
    "1.2.840.10008.5.1.4.39": "a colour palette",
    "1.2.840.10008.5.1.4.43": "an implant template",
    "1.2.840.10008.5.1.4.44": "an implant template",
    "1.2.840.10008.5.1.4.45": "an implant template",
}


def not_an_image(sop_class: str) -> str | None:
    """Return in our words what an object of this SOP class is; None if it is an image, or of an unknown class."""
    if sop_class in RADIOTHERAPY_IMAGES:
        return None
    return next((kind for uid, kind in KINDS.items() if f"{sop_class}.".startswith(f"{uid}.")), None)
