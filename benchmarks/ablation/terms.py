"""Effect of each term of the score, and whether synthetic anomalies rank scores as real ones do.

    python -m benchmarks.ablation.terms --data FOLDER [--work FOLDER] [--seeds 0 1]
    python -m benchmarks.ablation.terms                    # only write the tables again

A model with every term is trained once a set, region and seed: on the chest in the lungs and in the body, on the brain
in the body. Terms are
fitted apart from one another, so that a sum of some of them is what a model of these alone would have. Measured are
held-out normals as they are, the same as another scanner would give them (``recapture``), the same with a synthetic
anomaly each in the region, abnormal images of the train folder whose patients are not tested, and the test split, which
decides nothing.

Runs are kept in --work until you delete it. Writes terms.json and terms.md to --out.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from aeflow._types import Floats
from aeflow.artifacts.layout import MODEL_JSON
from aeflow.artifacts.run import Artifact, load_run
from aeflow.calibration.calibration import conformal_threshold
from aeflow.calibration.term_scale import TermScale
from aeflow.config import Settings, make_settings
from aeflow.data.augment import recapture
from aeflow.data.records import Record, read_records
from aeflow.features.cache import FeatureCache
from aeflow.features.cached_features import Features
from aeflow.metrics.image import auroc
from aeflow.model.aeflow import AEFlow
from aeflow.model.front import Encoded
from aeflow.model.terms import TERMS
from aeflow.runtime.process import prepare
from aeflow.training import train as training
from aeflow.training.fit_terms import BATCH, seen_rows
from aeflow.training.plan import DIFFUSE, FOCAL, UNKNOWN
from aeflow.training.region_anomalies import anomalies_seen
from aeflow.tuning.proxy import Sides
from benchmarks.common import BRAIN, CHEST, machine_line, spread, write_results
from benchmarks.inputs import features_of, labels_of, measures_of, measures_of_encoded
from benchmarks.options import Parser

REGIONS = {CHEST: ("lungs", "body"), BRAIN: ("body",)}
PLANS = {"diffuse": DIFFUSE, "focal": FOCAL, "unknown": UNKNOWN}
NO_REFERENCE = {"body": ("pooled_filter",)}  # no tissue lies beside the body, so that the plan leaves these out
ALL = tuple(name for name in TERMS if name != "reconstruction")
COLUMNS = ("real", "real, recaptured", "synthetic", "recaptured above", "test")
FALSE_ALARMS = 0.05

Measures = Mapping[str, Floats]  # by term, (n,) or (n, columns)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure if there is data, and write the tables."""
    parser = Parser("ablation.terms", __doc__)
    parser.share("--data", help="measure on the sets in this folder; without it, only write again")
    parser.share("--out", "--sets")
    parser.share("--work", default=Path(tempfile.gettempdir()) / "aeflow-terms")
    parser.share("--seeds", default=[0, 1])
    options = parser.parse_args(arguments)
    path = options.out / "terms.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"sets": {}}
    if options.data:
        prepare()
        results["machine"] = machine_line()
        for data, seed in itertools.product(options.sets, options.seeds):
            for region in REGIONS[data]:
                run = options.work / f"{data} {region} {seed}"
                found = measured(options.data / data, run, settings_of(region, seed))
                results["sets"].setdefault(data, {}).setdefault(region, {})[str(seed)] = found
                write_results(path, results)
    (options.out / "terms.md").write_text(table(results))


def settings_of(region: str, seed: int) -> Settings:
    """Return the settings of the model with every term."""
    terms = [name for name in ALL if name not in NO_REFERENCE.get(region, ())]
    return make_settings("default", region=region, terms=tuple(terms), seed=seed)


def measured(data: Path, run: Path, settings: Settings) -> dict[str, dict[str, float]]:
    """Train, unless that was done, and return the figures of each sum of terms, by their names joined."""
    if not (run / MODEL_JSON).exists():
        run.parent.mkdir(parents=True, exist_ok=True)
        training.train(data, run, settings)
    artifact = load_run(run)
    groups = groups_of(artifact, data)
    terms = {group: standardised(measures, groups["clean"]) for group, measures in groups.items()}
    labels = labels_of(read_records(data, "test"))
    names = artifact.settings.chosen_terms
    sums = itertools.chain.from_iterable(itertools.combinations(names, k) for k in range(1, 1 + len(names)))
    return {" + ".join(some): figures(terms, some, labels) for some in sums}


def groups_of(artifact: Artifact, data: Path) -> dict[str, Measures]:
    """Return the raw measures of each group of images."""
    net, sides = artifact.net, Sides.of(data, artifact.settings)
    cache = FeatureCache(net.front, artifact.settings.image_size, change=recapture)

    def of(records: Sequence[Record], view: int = 0) -> Measures:
        return measures_of(net, features_of(cache, list(records), view))[0]

    groups = {"clean": of(sides.held), "recaptured": of(sides.held, 1), "abnormal": of(sides.abnormal)}
    groups["test"] = of(read_records(data, "test"))
    groups["synthetic"] = measures_of_encoded(net, with_anomalies(net, features_of(cache, sides.held)))[0]
    return groups


def with_anomalies(net: AEFlow, normals: Features) -> Iterator[Encoded]:
    """Yield normals with a synthetic anomaly each, as the frozen front gives them; the model's seed decides."""
    generator = torch.Generator().manual_seed(net.settings.seed)
    for start in range(0, len(normals), BATCH):
        seen = seen_rows(net.front, normals, list(range(start, min(start + BATCH, len(normals)))))
        yield net.front.of_seen(seen.with_x(anomalies_seen(seen, generator)[0]))


def standardised(measures: Measures, clean: Measures) -> dict[str, Floats]:
    """Return the terms (n,) in spreads of clean normals, as calibration composes them."""
    scales = {name: TermScale.fit(name, clean[name], weight=1.0, two_sided=False) for name in measures}
    return {name: scales[name].term(values) for name, values in measures.items()}


def figures(terms: Mapping[str, Mapping[str, Floats]], some: Sequence[str], labels: Sequence[int]) -> dict[str, float]:
    """Return the figures of the sum of ``some`` terms, see COLUMNS."""
    score = {group: np.sum([of[name] for name in some], axis=0) for group, of in terms.items()}

    def area(normal: Floats, abnormal: Floats) -> float:
        return auroc([*normal, *abnormal], [0] * len(normal) + [1] * len(abnormal))

    _, threshold = conformal_threshold(score["clean"], FALSE_ALARMS)
    return {
        "real": area(score["clean"], score["abnormal"]),
        "real, recaptured": area(np.r_[score["clean"], score["recaptured"]], score["abnormal"]),
        "synthetic": area(score["clean"], score["synthetic"]),
        "recaptured above": float((score["recaptured"] > threshold).mean()),
        "test": auroc(score["test"].tolist(), labels),
    }


def rows_of(plan: Sequence[str], known: Sequence[str]) -> dict[str, list[str]]:
    """Return the sums that a table shows around a plan: itself, without each term, with each other one."""
    own = [name for name in plan if name in known]
    rows = {"the plan": own}
    rows |= {f"without {name}": [other for other in own if other != name] for name in own if len(own) > 1}
    return rows | {f"with {name}": [*own, name] for name in known if name not in own}


def table(results: Mapping[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = [f"{results['machine']}.", "", " ".join((__doc__ or "").split("\n\n")[2].split()), ""]
    lines += [
        "AUROC; *recaptured above*: share of the recaptured normals above the threshold meant for 5 % of normals. The",
        "threshold and the scales are of the very normals that *real* is measured against, which flatters all alike.",
        "",
    ]
    for data, regions in results["sets"].items():
        for region, seeds in regions.items():
            known = [name for name in ALL if name in next(iter(seeds.values()))]
            lines += [f"## {data}, region {region}, seeds {', '.join(seeds)}", "", *_head("terms")]
            lines += [_line(name, [name], seeds, known) for name in known]
            for plan, terms in PLANS.items():
                lines += ["", f"### {plan}", "", *_head("sum")]
                lines += [_line(name, some, seeds, known) for name, some in rows_of(terms, known).items()]
            lines += ["", *ranks(seeds), ""]
    return "\n".join(lines)


def ranks(seeds: Mapping[str, Any]) -> list[str]:
    """Return how well synthetic anomalies rank the sums as real ones of the train folder do, in a sentence."""
    of_seeds = [
        float(spearmanr([row["synthetic"] for row in of.values()], [row["real"] for row in of.values()]).statistic)
        for of in seeds.values()
    ]
    count = len(next(iter(seeds.values())))
    return [
        f"Over all {count} sums of terms, the AUROC on synthetic anomalies ranks them as that on real ones of the",
        f"train folder does with a correlation (Spearman) of {', '.join(f'{value:+.2f}' for value in of_seeds)}.",
    ]


def _head(first: str) -> list[str]:
    return [f"| {first} | {' | '.join(COLUMNS)} |", "|---" * (1 + len(COLUMNS)) + "|"]


def _line(name: str, some: Sequence[str], seeds: Mapping[str, Any], known: Sequence[str]) -> str:
    key = " + ".join(sorted(some, key=known.index))
    found = ([of[key][column] for of in seeds.values()] for column in COLUMNS)
    cells = [spread(values) if len(values) > 1 else f"{values[0]:.3f}" for values in found]
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
