"""What OpenVINO compiles a graph to for one processor, kept in the cache: it opens in half the time and less memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from aeflow.runtime.cache import MAKING, cache_root, discard, graph_folder, mark_used, note_damage, seal, verify
from aeflow.runtime.cache_limit import make_room
from aeflow.runtime.files import digest
from aeflow.runtime.folders import publish, scratch

COMPILED = "compiled.bin"


def compiled(core: Any, build: Callable[[], Any], hints: Mapping[str, Any], of: object, what: str) -> Any:
    """Return the compiled model that ``build`` describes, from the cache if it is there.

    ``of`` tells the model from every other, as JSON; the key holds processor, OpenVINO's version and ``hints`` beside
    it. ``what`` names it in the list of the cache. What is damaged, or refused by OpenVINO, is made anew with a note.
    """
    processor = [core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    release = core.get_versions("CPU")["CPU"].build_number
    place = graph_folder(cache_root(), digest([COMPILED, release, processor, dict(hints), of]))
    if place.exists():
        try:
            verify(place, COMPILED)
            found = core.import_model(io.BytesIO((place / COMPILED).read_bytes()), "CPU", hints)
        except (OSError, ValueError, RuntimeError) as error:
            if place.exists():  # else the cache was cleared just now
                note_damage(place, error)
                discard(place, cache_root())
        else:
            mark_used(place)
            return found
    found = core.compile_model(build(), "CPU", hints)
    with suppress(OSError):  # a cache that is full, read-only or nobody's: it is compiled again next time
        content = found.export_model().getvalue()
        make_room(cache_root(), len(content))
        with scratch(place.parent, MAKING) as folder:
            (folder / COMPILED).write_bytes(content)
            seal(folder, what)
            publish(folder, place)  # refused if another process was faster
    return found
