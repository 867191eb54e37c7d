"""Findings of an audit, each with its figures, a remedy, and the images concerned by number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["stop", "warn", "note"]
SEVERITIES: tuple[Severity, ...] = ("stop", "warn", "note")  # the worst first


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding; no text of it holds a file name or a patient's key.

    ``stop``: no figure from this data can be trusted before it is dealt with. ``warn``: look at it. ``note``: know it.
    """

    severity: Severity
    name: str
    found: str
    remedy: str
    images: tuple[int, ...] = ()  # indices into the records, in order


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings by severity, and in their order within one."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
