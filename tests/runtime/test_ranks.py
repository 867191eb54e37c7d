"""Ranks: with one process nothing happens; what several divide they have among them, each part once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aeflow.errors import SettingsError
from aeflow.runtime import ranks


def among(number: int, size: int) -> ranks._Ranks:
    """A process among others that it never talks to."""
    return ranks._Ranks(number, size, number, None, None, None)


@given(st.lists(st.integers(), max_size=40), st.integers(1, 9), st.integers(1, 9))
def test_shares_are_all_that_there_is_in_order_and_in_whole_batches(items: list[int], size: int, batch: int) -> None:
    parts = []
    for number in range(size):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ranks, "_ranks", among(number, size))
            parts.append(ranks.share(items, batch))
    assert [item for part in parts for item in part] == items
    batches = [-(-len(part) // batch) for part in parts]
    assert sum(batches) == -(-len(items) // batch)
    assert max(batches) - min(batches) <= 1


def test_alone_nothing_is_divided_and_nothing_changes() -> None:
    values = [torch.arange(3.0), torch.ones(2, 2)]
    before = [value.clone() for value in values]
    with ranks.joined():
        assert (ranks.size(), ranks.first(), ranks.of_node()) == (1, True, 0)
        assert ranks.share([1, 2, 3]) == [1, 2, 3]
        assert ranks.from_first(lambda: "found") == "found"
        assert ranks.gathered(5) == ranks.to_first(5) == [5]
        ranks.add_up(values)
        ranks.copy_from_first(values)
        ranks.wait()
    assert all(torch.equal(a, b) for a, b in zip(values, before, strict=True))


def test_alone_a_missing_gradient_stays_missing() -> None:
    weight = torch.zeros(2, requires_grad=True)
    ranks.add_up_gradients([weight])
    assert weight.grad is None


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK"])
def test_a_launcher_that_talks_nonsense_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(name, "two")
    with pytest.raises(SettingsError, match=f"{name}: 'two' is no number; let torchrun set it"), ranks.joined():
        pass


def test_processes_without_a_place_to_meet_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    found = r"torchrun: 2 processes cannot meet \(.*; start all of them with torchrun"
    with pytest.raises(SettingsError, match=found), ranks.joined():
        pass
    assert ranks.size() == 1
