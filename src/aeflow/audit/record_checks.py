"""Findings that need no pixels: numbers of images, and patients in several splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from aeflow.audit.findings import Finding, Severity
from aeflow.data.records import Record
from aeflow.errors import count

FEW_TRAIN = 100  # train normals: a fifth is held out, and fewer than 20 of these cannot show a p-value below 0.05
FEW_TEST = 50  # images of a class: with fewer, an AUROC of 0.9 has an interval of more than 0.1


def check_records(records: Sequence[Record]) -> list[Finding]:
    """Return all findings of this file."""
    return [*_numbers(records), *_patients(records), *_unknown_patients(records)]


def _numbers(records: Sequence[Record]) -> list[Finding]:
    """Return findings about the numbers of images in each split."""
    counts = Counter((record.split, record.label) for record in records)
    splits = {split for split, _ in counts}
    found: list[Finding] = []
    if splits == {None}:
        found.append(
            Finding(
                "warn",
                "no splits",
                f"none of {count(len(records), 'image')} has a split",
                "write a manifest with aeflow data split, which keeps each patient on one side",
            )
        )
        return found
    if None in splits:
        without = tuple(i for i, record in enumerate(records) if record.split is None)
        text = f"{count(len(without), 'image')} of {len(records):,} have no split and are never used"
        found.append(Finding("warn", "images without a split", text, "give them one with aeflow data split", without))
    normals = counts["train", 0]
    if normals < FEW_TRAIN:
        severity: Severity = "stop" if normals < 2 else "warn"
        text = f"{count(normals, 'train normal')}; a fifth is held out for the threshold and the p-values"
        found.append(Finding(severity, "few train normals", text, f"collect {FEW_TRAIN} or more"))
    for split in ("val", "test"):
        if split not in splits:
            continue
        healthy, ill = counts[split, 0], counts[split, 1]
        if min(healthy, ill) < FEW_TEST:
            text = f"{count(healthy, 'normal')} and {ill:,} abnormal in {split}: every figure will have a wide interval"
            found.append(Finding("warn", f"few images in {split}", text, f"collect {FEW_TEST} or more of each"))
        if healthy and ill:
            share = ill / (healthy + ill)
            text = (
                f"{share:.0%} of {split} is abnormal; calling every image abnormal has F1 {2 * share / (1 + share):.3f}"
            )
            remedy = "compare F1 and accuracy with that, and expect another precision where disease is rarer"
            found.append(Finding("note", f"balance of {split}", text, remedy))
    if "test" not in splits:
        remedy = "give images of other patients the split test, with aeflow data split"
        found.append(Finding("warn", "no test split", "nothing to measure a model on", remedy))
    return found


def _patients(records: Sequence[Record]) -> list[Finding]:
    """Return findings about patients in several splits.

    Train normals of such patients in test leak; their other train images are left out of training.
    """
    of = {split: {r.patient for r in records if r.split == split} for split in ("train", "val", "test")}
    found: list[Finding] = []
    for first, second in (("train", "test"), ("train", "val"), ("val", "test")):
        shared = of[first] & of[second]
        both = [i for i, r in enumerate(records) if r.patient in shared and r.split in (first, second)]
        for label, name in ((0, "normal"), (1, "abnormal"), (None, "unlabelled")):
            # a patient counts by the images on the first side
            mine = [i for i in both if records[i].split == first and records[i].label == label]
            if not mine:
                continue
            patients = {records[i].patient for i in mine}
            text = (
                f"{count(len(patients), 'patient')} with {count(len(mine), name + ' image')} in {first} "
                f"also {'has' if len(patients) == 1 else 'have'} images in {second}"
            )
            severity: Severity = "warn"
            if (first, second) == ("train", "test"):
                severity = "stop" if label == 0 else "warn"
                remedy = (
                    "move all images of a patient to one split (aeflow data split); training stops on this"
                    if label == 0
                    else "nothing must be done: training leaves these train images out"
                )
            else:
                remedy = "move all images of a patient to one split (aeflow data split)"
            images = tuple(i for i in both if records[i].patient in patients)
            found.append(Finding(severity, f"patients in {first} and {second}, {name}", text, remedy, images))
    return found


def _unknown_patients(records: Sequence[Record]) -> list[Finding]:
    """Return a finding if images name no patient."""
    unknown = tuple(i for i, r in enumerate(records) if r.patient == r.name)
    if not unknown:
        return []
    text = (
        f"no column and no file name says whose {count(len(unknown), 'image')} of {len(records):,} are; "
        "each counts as a patient of its own"
    )
    remedy = "add a column patient to manifest.csv; without it nobody can tell whether a patient is in two splits"
    return [Finding("warn", "patients unknown", text, remedy, unknown if len(unknown) < len(records) else ())]
