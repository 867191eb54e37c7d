"""Recognition of DICOM by its first bytes; most other files are told without pydicom."""

from __future__ import annotations

FIRST_GROUPS = (b"\x02\0", b"\0\x02", b"\x08\0", b"\0\x08")  # 0002 and 0008, in either order of bytes


def is_dicom(content: bytes) -> bool:
    """Return if these bytes begin like DICOM: with its preamble, or with an element of group 0002 or 0008."""
    if content[128:132] == b"DICM":
        return True
    if not content.startswith(FIRST_GROUPS):
        return False
    from aeflow.imageio.dicom.parse import encoding  # whose dictionary of elements is pydicom's

    return encoding(content) is not None
