"""Splits: a partition by patient, the same for any order of the input, and about as large as asked for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aeflow.data import Record, hold_out, leave_out_patients, read_records, shared_patients
from aeflow.errors import DataError, SettingsError

SAMPLE = Path(__file__).parent.parent / "sample"


def records_of(sizes) -> list[Record]:
    """One patient for each size, with as many images."""
    names = [(f"p{patient}", f"p{patient}/{image}.png") for patient, size in enumerate(sizes) for image in range(size)]
    return [Record(Path(name), name, "train", 0, patient, None, None) for patient, name in names]


sizes = st.lists(st.integers(1, 12), min_size=2, max_size=30)
fractions = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**32)


@given(sizes, fractions, seeds)
def test_a_partition_by_patient_with_neither_side_empty(sizes, fraction, seed):
    records = records_of(sizes)
    kept, held = hold_out(records, fraction, seed)
    assert kept
    assert held
    assert sorted(kept + held, key=lambda r: r.name) == sorted(records, key=lambda r: r.name)
    assert not shared_patients(kept, held)


@given(sizes, fractions, seeds)
def test_the_share_is_right_within_the_largest_patient(sizes, fraction, seed):
    records = records_of(sizes)
    _, held = hold_out(records, fraction, seed)
    assert abs(len(held) - fraction * len(records)) <= max(sizes)


@given(sizes, fractions, seeds, st.randoms())
def test_the_order_of_the_input_does_not_matter(sizes, fraction, seed, random):
    records = records_of(sizes)
    expected = hold_out(records, fraction, seed)
    random.shuffle(records)
    assert hold_out(records, fraction, seed) == expected


def test_single_images_are_split_exactly():
    records = records_of([1] * 200)
    for fraction in (0.1, 0.15, 0.5):
        assert len(hold_out(records, fraction, seed=3)[1]) == round(fraction * 200)


@pytest.mark.parametrize("seed", range(8))
def test_a_large_patient_is_not_held_out_where_a_small_one_will_do(seed):
    assert len(hold_out(records_of([10, 1]), 0.1, seed)[1]) == 1


def test_seeds_draw_every_patient_about_equally_often():
    records, draws = records_of([1] * 20), 400
    counts = Counter(record.patient for seed in range(draws) for record in hold_out(records, 0.25, seed)[1])
    assert len(counts) == 20
    assert all(60 <= count <= 140 for count in counts.values())  # 100 expected, standard deviation 8.7


def test_the_split_is_the_same_everywhere():
    _, held = hold_out(records_of([1] * 10), 0.3, seed=0)
    assert [record.patient for record in held] == ["p0", "p3", "p6"]


def test_one_patient_cannot_be_split():
    for records in ([], records_of([5])):
        with pytest.raises(DataError, match="cannot be split by patient; add images of other patients, or name"):
            hold_out(records, 0.2, seed=0)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_a_fraction_lies_between_0_and_1(fraction):
    with pytest.raises(SettingsError, match="give a number between 0 and 1"):
        hold_out(records_of([1, 1]), fraction, seed=0)


def test_shared_patients_can_be_left_out():
    records = records_of([2, 1, 3])
    train, test = records[:3], records[1:]
    assert shared_patients(train, test) == {"p0", "p1"}
    left = leave_out_patients(test, shared_patients(train, test))
    assert left == records[3:]
    assert not shared_patients(train, left)


def test_real_patients():
    train = read_records(SAMPLE, "train")
    kept, held = hold_out(train, 0.15, seed=0)
    assert (len(kept), len(held)) == (289, 51)
    assert not shared_patients(kept, held)
