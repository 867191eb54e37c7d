"""Rules: the first that fits an object says if it is scored, with which run, and where the results go."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.uid import UID

from aeflow.node.settings import Rule


def rule_for(rules: Sequence[Rule], modality: str, body_part: str, source: str, sop_class: str) -> Rule | None:
    """Return the first rule that fits; None if there are rules and none does: such an object is skipped.

    Without any rule all is scored.

    >>> chest = Rule(modality=("CR", "DX"), body_part=("CHEST",))
    >>> rule_for([chest], "DX", "CHEST", "MODALITY", "1.2") is chest
    True
    >>> rule_for([chest], "CT", "CHEST", "MODALITY", "1.2") is None
    True
    """
    for rule in rules or (Rule(),):
        asked = (
            (rule.modality, (modality,)),
            (rule.body_part, (body_part,)),
            (rule.source, (source,)),
            (rule.sop_class, (sop_class, UID(sop_class).keyword)),
        )
        if all(_fits(values, found) for values, found in asked):
            return rule
    return None


def _fits(values: Sequence[str], found: Sequence[str]) -> bool:
    return not values or bool({value.upper() for value in values} & {one.upper() for one in found})
