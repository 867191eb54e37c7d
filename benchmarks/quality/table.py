"""Results as Markdown: the whole page, and the README's table."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.common import BRAIN, CHEST, SETS, spread
from benchmarks.quality.methods import GROUPS, METHODS

TITLES = {
    "default": "**aeflow, preset default**",
    "lungs, diffuse": "aeflow, region lungs, looks for diffuse change",
    "lungs, unknown": "aeflow, region lungs",
    "focal": "aeflow, looks for focal change",
    "large": "aeflow, preset large",
    "aeflow-1": "aeflow, preset aeflow-1",
    "aeflow-1, large encoder": "aeflow, preset aeflow-1, the encoder of large",
}
SHORT = {CHEST: "chest", BRAIN: "brain"}
Rows = list[dict[str, Any]]

HEAD = """Test splits. Mean ± standard deviation over seeds; in brackets DeLong's 95 % interval of the mean over seeds,
which takes images for independent. Best F1, and the accuracy there: at the threshold that is best on this very split.
False alarms and sensitivity: of normal and abnormal images above the threshold that held-out train normals set for 5 %
of false alarms; then the sensitivity at the threshold with a true 10 % of false alarms on this split. Hottest point:
how often that of the anomaly map lies in the lesion / by chance.
Seconds and memory are medians over seeds: training without the features, which all share; scoring with reading and
encoding the images; the most memory of the process and its workers, shared pages counted once.
"""
NOTES = """## What is compared with what

- Every method learns from the same train normals, which the seed keeps, and sees the same images, at 224 pixels but
  for the paper's design, which takes 256. Controls read the features that aeflow-1's flow reads, or those of strides
  8, 16 and 32 of one pass.
- *default* knows neither region nor disease: body, and whatever changes. Other rows know more: that the images show
  lungs, that disease is diffuse or focal. *aeflow-1* is AE-FLOW's two terms on the whole image, the default of the
  first release.
- Pixel metrics: of images with a mask; of aeflow anomaly map / residual map.
- *paper, embedded encoder*: the published configuration with EfficientNet-Lite0 for Wide ResNet-50-2, hence 112
  channels at stride 16 for 1024, and a decoder of widths 56, 28, 14 for 512, 256, 64. All else is as published, the
  hidden width of 512 too. Of its 100 epochs those are left out that come more than 5 after the best held-out loss:
  the weights of the best epoch are kept in either case.
- *FlowGMM*: aeflow-1's flow, and classes learnt from as many labelled abnormal train images, drawn by the seed;
  persons of the test split never teach. Its training time is that of flow and classes.
- *plain autoencoder*: aeflow-1's decoder on the features themselves, trained as long as aeflow-1 on the mean squared
  error. *FastFlow-style flow*: flows on strides 8, 16, 32 with 3x3 and 1x1 kernels in turn (Yu et al. 2021),
  log-determinant included, no positions, features as they are, highest place of the map; as many steps as
  aeflow-1.
- *nearest patches*: 10,000 random train patches of stride 16, largest distance of an image's patches to the nearest.
  *nearest vectors*: mean distance of pooled features of strides 16 and 32 to the five nearest.
- *file size* is turned the way that is right more often on the test split.
- anomalib 2.7 with the same encoder and pixels: FastFlow for 4 epochs, PatchCore from 200 train normals with a
  coreset of 1 %, PaDiM with 100 channels, one seed each; else its defaults.
- The best control is the best on this test split, which favours it; p-values are not corrected for their number.
- Slices of one patient are not independent: on the brain the interval over patients is the one to believe.
"""


def table(results: dict[str, Any]) -> str:
    """Return the whole page."""
    lines = [f"Machine: {results['machine']}.", "", HEAD]
    for data, found in results["sets"].items():
        lines += [f"## {data}", "", *of_set(results, data, found), "", *at_threshold(found), ""]
        for name, one in results["features"].get(data, {}).items():
            parts = [f"train normals {one['train_seconds']:.0f} s"]
            if "test_seconds" in one:  # those of a training's front are not kept for test images
                parts.append(f"test images {one['test_seconds']:.0f} s")
            lines += [f"Features for the {name}, once: {', '.join(parts)}.", ""]
        if differences := results.get("differences", {}).get(data):
            for one in differences["of"]:
                lines += [*against(differences, one), ""]
    if results.get("means"):
        lines += ["## Mean over the sets", "", *of_means(results["means"]), ""]
    if gpus := on_a_gpu(results):
        lines += [f"Some seeds ran on a GPU, and their seconds and memory are left out: {gpus}.", ""]
    return "\n".join([*lines, NOTES])


def on_a_gpu(results: dict[str, Any]) -> str:
    """Name the methods that have seeds which a GPU trained and scored, and the GPU."""
    rows = [(name, row) for found in results["sets"].values() for name, of in found.items() for row in of]
    return ", ".join(sorted({f"{name} ({row['gpu']})" for name, row in rows if "gpu" in row}))


def of_set(results: dict[str, Any], data: str, found: dict[str, Rows]) -> list[str]:
    """Return the table of one set."""
    lines = [
        "| method | AUROC | AP | best F1 | accuracy there | false alarms | sensitivity | at 10 % false alarms "
        "| pixel AUROC | AUPRO | hottest point | train, s | score, s | MB | seeds |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in found.items():
        cells = [shown(rows, "auroc", "value"), shown(rows, "average_precision", "value")]
        if cells[0] != "-" and (one := results.get("summary", {}).get(data, {}).get(name)):
            cells[0] += f" [{one['low']:.3f}, {one['high']:.3f}]"
        where = () if name == "all abnormal" else ("oracle",)
        cells += [shown(rows, *where, "f1", "value"), shown(rows, *where, "accuracy", "value")]
        cells += [shown(rows, key, "value") for key in ("false_alarms", "sensitivity", "sensitivity_at_10")]
        cells += [maps(rows, "auroc"), maps(rows, "aupro"), hottest_point(rows)]
        here = [row for row in rows if "gpu" not in row]
        cells += [middle(here, key) for key in ("train_seconds", "score_seconds", "peak_mb")]
        lines.append(f"| {TITLES.get(name, name)} | {' | '.join(cells)} | {len(rows)} |")
    return lines


def at_threshold(found: dict[str, Rows]) -> list[str]:
    """Return the default's figures at its threshold, and the F1 of calling everything abnormal."""
    if "default" not in found:
        return []
    at = [f"{key} {shown(found['default'], key, 'value')}" for key in ("f1", "accuracy", "sensitivity", "specificity")]
    lines = [f"The default at the threshold from held-out train normals: {', '.join(at)}."]
    if everything := found.get("all abnormal"):
        lines.append(f"Everything called abnormal: F1 {shown(everything, 'f1', 'value')}.")
    return lines


def against(differences: dict[str, Any], reference: str) -> list[str]:
    """Return the difference of a method of aeflow to each control and peer of a set."""
    lines = [
        f"| AUROC of {reference} minus that of | difference | 95 % (DeLong) | p | 95 % over patients |",
        "|---|---|---|---|---|",
    ]
    for name, one in differences["of"][reference].items():
        title = f"**{name}** (best control)" if name == differences["best control"] else name
        low, high = one["patients"]
        cells = [f"{one['value']:+.3f}", f"[{one['low']:+.3f}, {one['high']:+.3f}]", p_value(one["p"])]
        lines.append(f"| {title} | {' | '.join(cells)} | [{low:+.3f}, {high:+.3f}] |")
    return lines


def of_means(means: dict[str, Any]) -> list[str]:
    """Return the mean over the sets, best first, and the methods above the default."""
    lines = ["| method | mean AUROC | default minus it | 95 % (DeLong) | p |", "|---|---|---|---|---|"]
    for name, one in sorted(means.items(), key=lambda item: -item[1]["value"]):
        cells = ["-"] * 3
        if name != "default":
            d = one["difference"]
            cells = [f"{d['value']:+.3f}", f"[{d['low']:+.3f}, {d['high']:+.3f}]", p_value(d["p"])]
        lines.append(f"| {TITLES.get(name, name)} | {one['value']:.3f} | {' | '.join(cells)} |")
    above = [
        name
        for name, one in means.items()
        if GROUPS[name] not in ("labels", "aeflow") and one["value"] > means["default"]["value"]
    ]
    lines += ["", f"Of controls and peers above the default: {', '.join(above) or 'none'}."]
    return lines


def short_table(results: dict[str, Any]) -> str:
    """Return the README's table: aeflow, peers, and of the controls whichever is best in a column."""
    chest, brain = (results["sets"][name] for name in SETS)
    names = [name for method in METHODS for name in method.names if name in chest or name in brain]
    best = best_controls(chest, brain)
    lines = [
        "| AUROC on the test split | chest X-ray, image | brain MRI, image | brain MRI, pixel |",
        "|---|---|---|---|",
    ]
    for group in ("aeflow", "control", "trivial", "peer", "labels"):
        for name in names:
            if GROUPS[name] != group or (group in ("control", "trivial") and name not in best):
                continue
            cells = [shown(rows.get(name, []), "auroc", "value") for rows in (chest, brain)]
            cells.append(maps(brain.get(name, []), "auroc", first=True))
            if name == "default":
                cells = [f"**{cell}**" for cell in cells]
            lines.append(f"| {TITLES.get(name, name)} | {' | '.join(cells)} |")
    lines += [
        "",
        "Chest: `chest_xray_224` (234 normal, 390 abnormal); brain: `lgg_mri_central` (184, 358). Mean ± standard",
        "deviation over seeds. Learnt from normals only, but for rows with labels. Of the controls on the same",
        f"features those that are best in a column. {results['machine']}.",
        *compared(results),
        *chest_at_threshold(chest),
        "",
    ]
    return "\n".join(lines)


def chest_at_threshold(chest: dict[str, Rows]) -> list[str]:
    """Return the default's figures at its threshold, beside those of calling everything abnormal, in two lines."""
    if not {"default", "all abnormal"} <= chest.keys():
        return []
    at = ", ".join(
        f"{key} {shown(chest['default'], key, 'value')}" for key in ("f1", "accuracy", "sensitivity", "specificity")
    ).replace("f1", "F1")
    everything, best_f1 = shown(chest["all abnormal"], "f1", "value"), shown(chest["default"], "oracle", "f1", "value")
    return [
        f"Chest at the threshold from held-out train normals: {at};",
        f"F1 {everything} for calling everything abnormal, oracle F1 {best_f1}.",
    ]


def best_controls(chest: dict[str, Rows], brain: dict[str, Rows]) -> set[str]:
    """Return the controls that are best in a column."""
    columns = [
        {name: values(rows, "auroc", "value") for name, rows in chest.items()},
        {name: values(rows, "auroc", "value") for name, rows in brain.items()},
        {name: values(rows, "pixel", "map", "auroc", "value") for name, rows in brain.items()},
    ]
    best = set()
    for column in columns:
        ours = {n: float(np.mean(v)) for n, v in column.items() if v and GROUPS[n] in ("control", "trivial")}
        best |= {max(ours, key=ours.__getitem__)} if ours else set()
    return best


def compared(results: dict[str, Any]) -> list[str]:
    """Return the default against the best control of each set, in a line."""
    parts = []
    for data, found in results.get("differences", {}).items():
        if "default" not in found["of"]:
            continue
        one = found["of"]["default"][found["best control"]]
        interval = f"{one['low']:+.3f} to {one['high']:+.3f}"
        parts.append(f"{SHORT[data]} {one['value']:+.3f} ({interval}, p {p_value(one['p'])}; {found['best control']})")
    return [f"Default minus the best control, paired DeLong: {'; '.join(parts)}."] if parts else []


def values(rows: Rows, *path: str) -> list[float]:
    """Return the number at a place of each row that has it."""
    found = []
    for row in rows:
        value: Any = row
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            found.append(float(value))
    return found


def shown(rows: Rows, *path: str) -> str:
    """Return mean and standard deviation over rows; for a single row its value."""
    found = values(rows, *path)
    return "-" if not found else spread(found) if len(found) > 1 else f"{found[0]:.3f}"


def maps(rows: Rows, metric: str, first: bool = False) -> str:
    """Return a pixel metric; for aeflow on its anomaly map, and on its residual map unless ``first``."""
    found = [shown(rows, "pixel", kind, metric, "value") for kind in ("map", "anomaly", "residual")]
    cells = [cell for cell in found if cell != "-"]
    return " / ".join(cells[:1] if first else cells) or "-"


def hottest_point(rows: Rows) -> str:
    """Return how often the hottest point of the map lies in the lesion, and by chance."""
    where = ("localisation", "lesion", "abnormal", "hottest_point")
    found = [shown(rows, *where, key) for key in ("value", "chance")]
    return "-" if "-" in found else " / ".join(found)


def middle(rows: Rows, key: str) -> str:
    """Return the median over rows."""
    found = values(rows, key)
    return f"{np.median(found):.0f}" if found else "-"


def p_value(p: float) -> str:
    """Return a p-value with three decimals."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"
