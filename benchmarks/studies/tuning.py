"""Settings that `aeflow tune` finds in a given time on train folders; the test split afterwards decides nothing.

    python -m benchmarks.studies.tuning --data FOLDER --budget 30m [--sets SET ...] [--work WORK]

For each set: the proxy of the preset and of the best trial, both again with another seed, which settings changed, and
then the AUROC on the test split of a model with each, trained with the same seed. A search that was stopped goes on
where --work is the same folder. Writes tune.json, in which sets that are not named stay as they were, and from which
the figures of docs/tune.md come: `python scripts/figures.py --write docs/tune.md`. --set changes the preset that is
searched around: for a quick try.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import aeflow
from aeflow.config import make_settings, parse_changes, preset_text
from aeflow.tuning.tune import PRESET, seconds_of, tune
from benchmarks.common import machine_line, write_results
from benchmarks.options import Parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, measure, and write the results after each set."""
    parser = Parser("studies.tuning", __doc__)
    parser.share("--data", required=True)
    parser.share("--sets", "--out", "--set")
    parser.share("--work", help="folder that keeps the searches; a temporary one by default")
    parser.add_argument("--budget", default="30m")
    options = parser.parse_args(arguments)
    changes = parse_changes(options.changes)
    budget = seconds_of(options.budget)
    results: dict[str, Any] = {"sets": {}}
    if (options.out / "tune.json").exists():
        results |= json.loads((options.out / "tune.json").read_text())
    results |= {"machine": machine_line(), "budget_minutes": budget / 60, "set": options.changes}
    with nullcontext(options.work) if options.work else tempfile.TemporaryDirectory() as work:
        for name in options.sets:
            results["sets"][name] = measure(options.data / name, Path(work) / name, budget, changes)
            print(name, json.dumps(results["sets"][name], indent=1), flush=True)
            write_results(options.out / "tune.json", results)


def measure(data: Path, work: Path, budget: float, changes: dict[str, Any]) -> dict[str, Any]:
    """Search on one set; return its results."""
    base = make_settings(**changes)
    found = tune(data, work / "tune", base, budget).summary
    states = Counter(trial["state"] for trial in found["trials"])
    (work / PRESET).write_text(preset_text(base))
    presets = {"default": work / PRESET, "tuned": work / "tune" / PRESET}
    return {
        "images": found["images"],
        "trials": len(found["trials"]),
        "finished": states["finished"],
        "stopped_early": states["stopped early"],
        "default": {name: found["default"][name] for name in ("value", "figures")},
        "best": found["best"],
        "confirmed": found["confirmed"],
        "changed": found["changed"],
        "importances": found["importances"],
        "test_auroc": {name: on_test(data, work / name, preset) for name, preset in presets.items()},
    }


def on_test(data: Path, run: Path, preset: Path) -> float:
    """Return the AUROC on the test split of a model with this preset: reported, never chosen by."""
    model = aeflow.train(data, run, preset=preset, overwrite=True)
    return float(model.evaluate(data)["auroc"]["value"])


if __name__ == "__main__":
    main()
