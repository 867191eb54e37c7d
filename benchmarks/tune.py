"""What `aeflow tune` finds in a given time, on train folders; the test split afterwards, which decides nothing.

    python benchmarks/tune.py --data FOLDER --budget 30m [--sets SET ...] [--work WORK] [--out benchmarks/results]

For each set: the proxy of the preset and of the best trial, both again with another seed, which settings changed, and
then the AUROC on the test split of a model with each, trained with the same seed. A search that was stopped goes on
where --work is the same folder. Writes tune.json, in which sets that are not named stay as they were, and from which
the figures of docs/tune.md come: `python benchmarks/figures.py --write docs/tune.md`. --set changes the preset that is
searched around: for a quick try.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import aeflow
from aeflow.config import make_settings, parse_changes, preset_text
from aeflow.tuning.tune import PRESET, seconds_of, tune
from quality import SETS, machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--budget", default="30m")
    parser.add_argument("--work", type=Path, help="folder that keeps the searches; a temporary one by default")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--set", action="append", default=[], dest="changes")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    changes = parse_changes(options.changes)
    budget = seconds_of(options.budget)
    results: dict[str, Any] = {"sets": {}}
    if (options.out / "tune.json").exists():
        results |= json.loads((options.out / "tune.json").read_text())
    results |= {"machine": machine(), "budget_minutes": budget / 60, "set": options.changes}
    with nullcontext(options.work) if options.work else tempfile.TemporaryDirectory() as work:
        for name in options.sets:
            results["sets"][name] = measure(options.data / name, Path(work) / name, budget, changes)
            print(name, json.dumps(results["sets"][name], indent=1), flush=True)
            (options.out / "tune.json").write_text(json.dumps(results, indent=1) + "\n")


def measure(data: Path, work: Path, budget: float, changes: dict[str, Any]) -> dict[str, Any]:
    """What is kept of one set."""
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
    """The AUROC on the test split of a model with this preset: reported, never chosen by."""
    model = aeflow.train(data, run, preset=preset, overwrite=True)
    return float(model.evaluate(data)["auroc"]["value"])


if __name__ == "__main__":
    main()
