"""Check that a JPEG stream holds all of its image: Pillow and others fill what is missing in grey, without a word.

libjpeg only warns of a scan that ends early, a code that is none and a restart marker out of place, and goes on. The
TurboJPEG interface can be told to stop at the first warning. It is asked for an eighth of the size in grey, which reads
every code and computes little.
"""

from __future__ import annotations

import re

import simplejpeg

PADDING = re.compile(rb"(?<=\0)\0+$")  # the first zero may be data
MAX_PADDING = 2**16  # bytes


def is_whole(stream: bytes, components: int) -> bool:
    """Return if every code of a JPEG stream of 8 bits can be read, up to the end of the image.

    What follows the end is no part of it, and zeros right before it, which some devices write, count as none.
    """
    if _reads(stream, components):
        return True
    end = stream.rfind(b"\xff\xd9")
    padding = PADDING.search(stream, max(0, end - MAX_PADDING), end)
    return padding is not None and _reads(stream[: padding.start()] + stream[end:], components)


def _reads(stream: bytes, components: int) -> bool:
    try:
        simplejpeg.decode_jpeg(stream, "CMYK" if components == 4 else "GRAY", min_height=1, min_width=1, strict=True)
    except ValueError:
        return False
    return True
