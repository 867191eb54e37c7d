"""Measures a service as it runs: time of a score beside ``model.score``, a long worklist, many clients, kills.

    python -m benchmarks.serve RUN IMAGES --out serve.json [--part score|list|load|kill]...

Floors: a score over HTTP takes at most 1.5 times ``model.score`` (95th percentile of each); the worklist's page with
50,000 rows 300 ms; of 2,000 requests of 50 clients none fails but by 429; of 20 kills none loses what was answered.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aeflow.data.folder_files import images_in
from aeflow.runtime.machine import machine
from benchmarks.serve import kills, load, timing

PARTS: dict[str, Callable[[Path, list[bytes], Path], dict[str, Any]]] = {
    "score": timing.score_beside_model,
    "list": timing.long_worklist,
    "load": load.many_clients,
    "kill": kills.kills,
}
MOST_IMAGES = 400


def main() -> None:
    """Run the parts that are asked for, and write what they measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", choices=PARTS, action="append")
    options = parser.parse_args()
    images = [path.read_bytes() for path in images_in(options.images)[:MOST_IMAGES]]
    found: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    for part in options.part or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            found[part] = {**PARTS[part](options.run, images, Path(folder)), "machine": machine()}
        print(part, json.dumps({key: value for key, value in found[part].items() if key != "machine"}))
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
