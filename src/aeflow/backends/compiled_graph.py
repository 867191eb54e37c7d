"""What OpenVINO compiles a graph to for one processor, kept in the cache: it opens in half the time and less memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from aeflow.runtime.files import digest
from aeflow.runtime.kept_files import drop, keep, read_kept

COMPILED = "compiled.bin"


def compiled(core: Any, build: Callable[[], Any], hints: Mapping[str, Any], of: object, what: str) -> Any:
    """Return the compiled model that ``build`` describes, from the cache if it is there.

    ``of`` tells the model from every other, as JSON; the key holds processor, OpenVINO's version and ``hints`` beside
    it. ``what`` names it in the list of the cache. What is damaged, or refused by OpenVINO, is made anew with a note.
    """
    processor = [core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    release = core.get_versions("CPU")["CPU"].build_number
    key = digest([COMPILED, release, processor, dict(hints), of])
    if (kept := read_kept(key, COMPILED)) is not None:
        try:
            return core.import_model(io.BytesIO(kept[COMPILED]), "CPU", hints)
        except RuntimeError as error:
            drop(key, error)
    found = core.compile_model(build(), "CPU", hints)
    with suppress(OSError):  # no memory to write it into: it is compiled again next time
        keep(key, {COMPILED: found.export_model().getvalue()}, what)
    return found
