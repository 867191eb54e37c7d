"""Audit of a data folder: findings that stand between it and trustworthy figures, with their remedies."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aeflow._types import Floats
from aeflow.audit import near_duplicates, shortcuts
from aeflow.audit.file_traits import BURNED_IN, Traits, traits
from aeflow.audit.findings import Finding, Severity, worst_first
from aeflow.audit.mask_checks import check_masks
from aeflow.audit.near_duplicates import Pair
from aeflow.audit.record_checks import check_records
from aeflow.audit.shortcuts import STRONG, Separation
from aeflow.data.loader import ahead_of
from aeflow.data.records import Record, label_name, read_records
from aeflow.data.slices import refusals_among, unfold
from aeflow.errors import count
from aeflow.imageio.decoder_pool import decoders
from aeflow.imageio.errors import ImageError
from aeflow.privacy import pseudonym
from aeflow.runtime.progress import bar

NUMBERING = "images are numbered from 1: the rows of manifest.csv, or the files in sorted order, train, val, test"

REMEDIES = {  # by the attribute's first word
    "file": "save all images again in one format at one quality (what remains is how much detail they show)",
    "bytes": "save all images again in one format at one quality (what remains is how much detail they show)",
    "JPEG": "save all images again in one format at one quality",
    "format": "save all images again in one format at one quality",
    "bit": "save all images again at one bit depth",
    "colour": "save all images as grey",
    "width": "crop and resize both groups in the same way",
    "height": "crop and resize both groups in the same way",
    "aspect": "crop and resize both groups in the same way",
    "mean": "check that both were exposed and windowed alike (a disease that is itself bright or dark shows here, too)",
    "share": "check that both groups were cropped and collimated in the same way",
    "slice": "choose the normal slices at the places of the abnormal ones",
    "distance": "choose the normal slices at the places of the abnormal ones",
    "burned-in": "train with --region body, which leaves thin strokes out, or with the organ's own region",
    "modality": "do not mix modalities",
    "photometric": "check that no image is inverted",
}


@dataclass(frozen=True, slots=True)
class Audit:
    """Results of an audit."""

    records: list[Record]
    findings: list[Finding]  # the worst first
    classes: list[Separation]  # normal against abnormal
    shifts: list[Separation]  # train normals against other normals
    attributes: dict[str, Floats]  # (N,) each, NaN for an image that has none
    exact: list[list[int]]  # groups of images with the same pixels
    near: list[Pair]
    refusals: list[tuple[int, ImageError]]

    @property
    def worst(self) -> Severity:
        """Severity of the worst finding; ``note`` if there is none."""
        return self.findings[0].severity if self.findings else "note"

    def to_json(self, identify: bool = False) -> dict[str, Any]:
        """Return everything as plain values, with pseudonyms of files; with ``identify`` their names as well."""
        numbers = Counter((r.split or "none", label_name(r.label)) for r in self.records)
        concerned = {i for finding in self.findings for i in finding.images}
        concerned |= {i for group in self.exact for i in group} | {i for pair in self.near for i in (pair.a, pair.b)}
        concerned |= {i for i, _ in self.refusals}
        return {
            "images": len(self.records),
            "patients": len({record.patient for record in self.records}),
            "numbering": NUMBERING,
            "worst": self.worst,
            "splits": {split: {k: n for (s, k), n in numbers.items() if s == split} for split, _ in numbers},
            "findings": [{**asdict(f), "images": [i + 1 for i in f.images]} for f in self.findings],
            "shortcuts": [asdict(separation) for separation in self.classes],
            "shifts": [asdict(separation) for separation in self.shifts],
            "duplicates": {
                "exact": [[i + 1 for i in group] for group in self.exact],
                "near": [{"images": [p.a + 1, p.b + 1], "correlation": p.correlation} for p in self.near],
            },
            "refused": [{"image": i + 1, "found": e.found, "remedy": e.remedy} for i, e in self.refusals],
            "pseudonyms": {str(i + 1): pseudonym(self.records[i].name) for i in sorted(concerned)},
            **({"names": {str(i + 1): self.records[i].name for i in sorted(concerned)}} if identify else {}),
        }


def audit(data: Path | str) -> Audit:
    """Read every image of a data folder once, and return what is wrong; raises DataError if there is no image."""
    records = unfold(read_records(data))
    found: list[Traits | None] = []
    refusals: list[tuple[int, ImageError]] = []
    pool = decoders()

    with bar("Auditing", len(records)) as advance:
        for index, (_, result) in enumerate(ahead_of(records, lambda r: pool.submit(traits, r.path, r.at))):
            advance()
            if isinstance(result, ImageError):
                refusals.append((index, result))
            found.append(None if isinstance(result, ImageError) else result)
    counted = dict(refusals_among([(records[i], error) for i, error in refusals]))
    refusals = [(i, error) for i, error in refusals if counted.get(records[i]) is error]
    exact = near_duplicates.same([None if t is None else t.pixels for t in found])
    near, complete = _near(records, found, exact)
    attributes = shortcuts.attributes_of(
        [None if t is None else t.numbers for t in found], [None if t is None else t.names for t in found], records
    )
    classes, shifts = shortcuts.by_class(attributes, records), shortcuts.by_split(attributes, records)
    findings = [
        *check_records(records),
        *check_masks(data, records, [t is not None for t in found]),
        *_unreadable(records, refusals),
        *_exact(records, exact, [None if t is None else t.content for t in found]),
        *_near_copies(records, near, complete),
        *_shortcuts(classes),
        *_shifts(shifts),
        *_burned_in(records, found),
        *_mixture(found),
    ]
    return Audit(records, worst_first(findings), classes, shifts, attributes, exact, near, refusals)


def _near(
    records: Sequence[Record], found: Sequence[Traits | None], exact: Sequence[Sequence[int]]
) -> tuple[list[Pair], bool]:
    """Return near copies by index; of images with the same pixels the first stands for all."""
    copies = {i for group in exact for i in group[1:]}
    chosen = [(i, t) for i, t in enumerate(found) if t is not None and i not in copies]
    if len(chosen) < 2:
        return [], True
    pairs, complete = near_duplicates.near(
        np.stack([t.hashes for _, t in chosen]),
        np.stack([t.picture for _, t in chosen]),
        [records[i].patient for i, _ in chosen],
    )
    return [Pair(chosen[p.a][0], chosen[p.b][0], p.correlation) for p in pairs], complete


def _unreadable(records: Sequence[Record], refusals: Sequence[tuple[int, ImageError]]) -> Iterator[Finding]:
    """Yield a finding if images cannot be read."""
    if refusals:
        text = f"{len(refusals):,} of {count(len(records), 'image')} cannot be read: {refusals[0][1].found}"
        more = len({error.found for _, error in refusals}) - 1
        text += f", and {count(more, 'other reason')}" if more else ""
        remedy = "each is listed with its remedy; training and scoring pass over them"
        yield Finding("warn", "unreadable images", text, remedy, tuple(i for i, _ in refusals))


def _exact(
    records: Sequence[Record], groups: Sequence[Sequence[int]], contents: Sequence[str | None]
) -> Iterator[Finding]:
    """Yield findings about images with the same pixels."""

    def images(chosen: Sequence[Sequence[int]]) -> tuple[int, ...]:
        return tuple(sorted(i for group in chosen for i in group))

    def bytewise(chosen: Sequence[Sequence[int]]) -> str:
        same = sum(len({contents[i] for i in group}) == 1 for group in chosen)
        return f"{same:,} of them byte for byte" if same else "none of them byte for byte"

    across = [group for group in groups if len({records[i].split for i in group}) > 1]
    if across:
        text = f"{count(len(across), 'image')} in more than one split with the same pixels, {bytewise(across)}"
        remedy = "keep each in one split; training stops on train normals that are in test byte for byte"
        yield Finding("stop", "copies across splits", text, remedy, images(across))
    torn = [group for group in groups if {0, 1} <= {records[i].label for i in group}]
    if torn:
        text = f"{count(len(torn), 'image')} labelled both normal and abnormal"
        yield Finding("stop", "copies across labels", text, "find out which label is right", images(torn))
    within = [group for group in groups if group not in across and group not in torn]
    if within:
        extra = sum(len(group) - 1 for group in within)
        text = f"{count(len(within), 'image')} occur more than once within a split ({extra:,} too many)"
        yield Finding("note", "copies within a split", text, "keep one of each: copies count twice", images(within))


def _near_copies(records: Sequence[Record], pairs: Sequence[Pair], complete: bool) -> Iterator[Finding]:
    """Yield findings about images that are nearly the same."""
    kinds: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        a, b = records[pair.a], records[pair.b]
        splits, labels = a.split != b.split, {a.label, b.label} == {0, 1}
        kinds["across splits" if splits else "across labels" if labels else "within a split"].append(pair)
    remedies: dict[str, tuple[Severity, str]] = {
        "across splits": ("warn", "look at them (--out draws them), and keep both images of a pair in one split"),
        "across labels": ("warn", "look at them (--out draws them), and find out which label is right"),
        "within a split": ("note", "look at them (--out draws them): one person under two keys, or copies"),
    }
    for kind, (severity, remedy) in remedies.items():
        if kind in kinds:
            images = sorted({i for pair in kinds[kind] for i in (pair.a, pair.b)})
            text = f"{count(len(kinds[kind]), 'pair')} of patients' images that are the same but for processing"
            yield Finding(severity, f"near copies {kind}", text, remedy, tuple(images))
    if not complete:
        text = f"more than {near_duplicates.MAX_PAIRS:,} pairs look alike; only the most alike were compared"
        yield Finding("warn", "near copies not complete", text, "take out copies that were found, and audit again")


def _shortcuts(separations: Sequence[Separation]) -> Iterator[Finding]:
    """Yield a finding for each attribute that separates normal from abnormal images."""
    kinds: dict[str, list[Separation]] = defaultdict(list)
    for separation in separations:
        if separation.suspect:
            kinds[separation.attribute].append(separation)
    for attribute, strongest_first in kinds.items():
        first = strongest_first[0]
        figures = ", ".join(f"{_figures(separation)} ({_tendency(separation)})" for separation in strongest_first)
        text = f"{attribute} alone tells abnormal from normal: {figures}"
        remedy = f"{_remedy(attribute)}; else report this control beside every figure"
        yield Finding("stop" if first.auroc >= STRONG else "warn", f"shortcut: {attribute}", text, remedy)


def _shifts(separations: Sequence[Separation]) -> Iterator[Finding]:
    """Yield a finding for each attribute that separates the normals of splits."""
    for separation in separations:
        if separation.suspect:
            split = separation.groups[1].partition(" in ")[2]
            text = (
                f"{separation.attribute} alone tells normals by their split: {_figures(separation)}; "
                f"{separation.outside:.0%} of {split} normals lie outside the middle 95 % of train normals "
                f"({_tendency(separation)})"
            )
            remedy = f"{_remedy(separation.attribute)}; else expect more false alarms than the threshold allows"
            yield Finding("warn", f"shift: {separation.attribute}", text, remedy)


def _figures(separation: Separation) -> str:
    """Return the AUROC of a separation with its interval."""
    place = separation.groups[1].partition(" in ")[2]
    interval = f"{separation.low:.3f} to {separation.high:.3f}"
    return f"AUROC {separation.auroc:.3f} ({interval}){' in ' + place if place else ''}"


def _tendency(separation: Separation) -> str:
    """Return the direction of a separation: higher or lower, more or less often."""
    label, _, split = separation.groups[1].partition(" in ")
    group = f"in {label} images" if label == "abnormal" else f"in {split}"
    if ": " in separation.attribute:
        return f"{'more' if separation.higher else 'less'} often {group}"
    return f"{'higher' if separation.higher else 'lower'} {group}"


def _remedy(attribute: str) -> str:
    """Return the remedy for an attribute."""
    return REMEDIES[attribute.split()[0].rstrip(":")]


def _burned_in(records: Sequence[Record], found: Sequence[Traits | None]) -> Iterator[Finding]:
    """Yield a finding if pictures show burned-in text or markers; how they go with the label is a shortcut's."""
    marked = tuple(i for i, t in enumerate(found) if t is not None and t.numbers[BURNED_IN] > 0)
    if marked:
        labels = Counter(records[i].label for i, t in enumerate(found) if t is not None)
        of = Counter(records[i].label for i in marked)
        shares = ", ".join(f"{of[k] / labels[k]:.0%} of {label_name(k)} ones" for k in sorted(labels, key=str))
        text = (
            f"{count(len(marked), 'image')} with thin, short, very bright strokes, as text and side markers: {shares}"
        )
        yield Finding("note", "burned-in text or markers", text, REMEDIES["burned-in"], marked)


def _mixture(found: Sequence[Traits | None]) -> Iterator[Finding]:
    """Yield findings about mixed sizes, formats and modalities."""
    read = [t for t in found if t is not None]
    sizes = Counter((int(t.numbers["width"]), int(t.numbers["height"])) for t in read)
    if len(sizes) > 1:
        (width, height), most = sizes.most_common(1)[0]
        text = f"{len(sizes):,} sizes; {most / len(read):.0%} of the images are {width} x {height}"
        yield Finding("note", "mixed sizes", text, "nothing: images are resized; crop them alike if they were not")
    for key, plural in (("format", "formats"), ("colour", "kinds of colour"), ("modality", "modalities")):
        kinds = Counter(t.names[key] for t in read if key in t.names)
        if len(kinds) > 1:
            text = ", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common())
            yield Finding("note", f"mixed {plural}", text, "see that it is not one format for each class")
