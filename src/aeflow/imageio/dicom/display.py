"""Stored values as a viewer shows them, in [0, 1]; the rules are in ``dicom/reader.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeflow.imageio.dicom.decode import Stored
from aeflow.imageio.dicom.lookup_tables import table, tables
from aeflow.imageio.dicom.parse import ParsedDicom
from aeflow.imageio.dicom.pixel_module import Layout
from aeflow.imageio.dicom.values import described
from aeflow.imageio.errors import EmptyImageError

Values = NDArray[np.float64]
Map = Callable[[Values], Values]

UNSCALED_MODALITIES = ("MR", "MA", "NM", "PT", "ST")  # modalities whose values have no fixed scale
ROBUST_PERCENTILES = (0.5, 99.5)  # percentiles


def shown(source: ParsedDicom, layout: Layout, stored: Stored, frame: int) -> NDArray[np.float32]:
    """Return the stored values of a frame as (H, W) grey or (H, W, 3) colour in [0, 1]."""
    values = stored.values
    if stored.photometric == "PALETTE COLOR":
        names = [f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue")]
        channels = [table(source, source.data, name, layout.lowest).unit(values.astype(float)) for name in names]
        return np.stack(channels, axis=-1).astype(np.float32)
    if values.ndim == 3:
        return values.astype(np.float32) / np.float32(layout.highest)
    return _grey(source, layout, values, frame)


def _grey(source: ParsedDicom, layout: Layout, values: NDArray[Any], frame: int) -> NDArray[np.float32]:
    """Return grey values in [0, 1]; padding is 0."""
    padding = _padding(source, layout, values)
    seen = values if padding is None else values[~padding]
    if values.dtype.kind == "f" and (bad := seen.size - np.count_nonzero(np.isfinite(seen))):
        raise source.refuse(f"{bad} values are NaN or infinite", "give every pixel a finite value")
    modality, ends = _modality(source, layout, frame)
    interest = _interest(source, frame, ends[0])
    if interest is None:
        if values.dtype.kind == "f" or source.text(source.data, "Modality") in UNSCALED_MODALITIES:
            ends = _robust(modality(seen.astype(np.float64)))
        interest = _stretch(*ends)
    inverted = layout.photometric == "MONOCHROME1"

    def show(numbers: Values) -> NDArray[np.float32]:
        unit = np.clip(interest(modality(numbers)), 0, 1)
        return (1 - unit if inverted else unit).astype(np.float32)

    if values.dtype.kind != "f" and layout.stored <= 16:
        levels = np.arange(layout.lowest, layout.highest + 1, dtype=np.float64)
        result: NDArray[np.float32] = show(levels)[values - layout.lowest]
    else:
        result = show(np.where(True if padding is None else ~padding, values, 0).astype(np.float64))
    if seen.size and (seen != seen.flat[0]).any() and (result == result.flat[0]).all():
        blamed = _blamed(source, modality(seen.astype(np.float64)))
        raise EmptyImageError(source.where, blamed, "correct it, or remove it")
    if padding is not None:
        result[padding] = 0
    return result


def _blamed(source: ParsedDicom, values: Values) -> str:
    """Return what makes stored values that differ look alike: the step to the modality's values, or that to grey."""
    if (values == values.flat[0]).all():
        name = "ModalityLUTSequence" if tables(source, "ModalityLUTSequence") else "RescaleSlope"
    else:
        name = "VOILUTSequence" if tables(source, "VOILUTSequence") else "WindowCenter"
    return f"its {described(name)} gives pixels that differ the same grey"


def _padding(source: ParsedDicom, layout: Layout, values: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return where nothing was measured (DICOM part 3, C.7.5.1.1.2); None if the file names no padding value."""
    if values.dtype.kind == "f":
        keyword = "FloatPixelPadding" if values.dtype.itemsize == 4 else "DoubleFloatPixelPadding"
        value, limit = (_float_padding(source, f"{keyword}{end}") for end in ("Value", "RangeLimit"))
    else:
        value, limit = source.whole("PixelPaddingValue"), source.whole("PixelPaddingRangeLimit")
        value, limit = (None if end is None else _in_sign(end, layout.signed) for end in (value, limit))
    if value is None:
        return None
    if value != value:
        return np.asarray(np.isnan(values))
    low, high = sorted((value, value if limit is None else limit))
    return np.asarray((values >= low) & (values <= high))


def _float_padding(source: ParsedDicom, keyword: str) -> float | None:
    """Return the padding value of floats, which may be NaN; None if it is missing or empty."""
    try:
        value = source.data.get(keyword)
        return None if value is None else float(value)
    except Exception:  # pydicom raises many kinds
        raise source.refuse(f"its {described(keyword)} is no number") from None


def _in_sign(value: int, signed: bool) -> int:
    """Return a 16-bit number in the sign of the pixels, which files often get wrong."""
    return (value + 32768) % 65536 - 32768 if signed else value % 65536


def _modality(source: ParsedDicom, layout: Layout, frame: int) -> tuple[Map, tuple[float, float]]:
    """Return the map from stored values to the modality's, and the range of these."""
    if luts := tables(source, "ModalityLUTSequence"):
        lut = table(source, luts[0], "LUT", layout.lowest)
        return lut, (0, lut.highest)
    group = source.group("PixelValueTransformationSequence", frame)
    slope = (source.numbers(group, "RescaleSlope") or [1.0])[0]
    intercept = (source.numbers(group, "RescaleIntercept") or [0.0])[0]
    low, high = sorted((layout.lowest * slope + intercept, layout.highest * slope + intercept))
    return lambda values: values * slope + intercept, (low, high)


def _interest(source: ParsedDicom, frame: int, lowest: float) -> Map | None:
    """Return the map from the modality's values to [0, 1] by the file's VOI table or its first window; None without."""
    if luts := tables(source, "VOILUTSequence"):
        return table(source, luts[0], "LUT", lowest).unit
    group = source.group("FrameVOILUTSequence", frame)
    pairs = zip(source.components(group, "WindowCenter"), source.components(group, "WindowWidth"), strict=False)
    centre, width = next(((c, w) for c, w in pairs if c is not None and w is not None), (0.0, 0.0))
    if width <= 0:
        return None
    function = source.text(group, "VOILUTFunction").upper() or "LINEAR"
    if function == "SIGMOID":
        return lambda values: 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if function == "LINEAR" and width >= 1:
        return _stretch(centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)
    if function in ("LINEAR", "LINEAR_EXACT"):
        return _stretch(centre - width / 2, centre + width / 2)
    raise source.refuse("a window of an unknown shape")


def _stretch(low: float, high: float) -> Map:
    """Return the map that takes ``low`` to 0 and ``high`` to 1; a step if there is nothing between them."""
    if high > low:
        return lambda values: (values - low) / (high - low)
    return lambda values: (values > low).astype(np.float64)


def _robust(values: Values) -> tuple[float, float]:
    """Return the 0.5th and 99.5th percentile of values, or their range if these are equal."""
    if values.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(values, ROBUST_PERCENTILES)
    return (float(low), float(high)) if high > low else (float(values.min()), float(values.max()))
