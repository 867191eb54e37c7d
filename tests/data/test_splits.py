"""Splits: a partition by patient, the same for any order of the input, and about as large as asked for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aeflow.cli import main
from aeflow.data.records import Record, read_records
from aeflow.data.splits import hold_out, leave_out_patients, shared_patients, split_by_patient
from aeflow.errors import DataError, SettingsError
from aeflow.privacy import identify, pseudonym
from helpers.data import SAMPLE


def records_of(sizes) -> list[Record]:
    """One patient for each size, with as many images."""
    names = [(f"p{patient}", f"p{patient}/{image}.png") for patient, size in enumerate(sizes) for image in range(size)]
    return [Record(Path(name), name, "train", 0, patient, None, None) for patient, name in names]


def code(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


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


# Splits of a whole data set

FRACTIONS = {"train": 0.7, "val": 0.1, "test": 0.2}
people = st.lists(
    st.tuples(st.integers(1, 8), st.sampled_from(["", "", "bacteria", "virus"])), min_size=30, max_size=60
)


def records_with(people) -> list[Record]:
    """For each (images, kind) a patient; one with a kind has one abnormal image, the others are normal."""
    return [
        Record(Path(name := f"p{patient}/{i}.png"), name, None, int(ill := bool(kind) and i == 0), f"p{patient}",
               kind if ill else None, None)
        for patient, (size, kind) in enumerate(people) for i in range(size)
    ]  # fmt: skip


@given(people, seeds)
@settings(max_examples=50)
def test_whole_patients_go_to_exactly_one_split(people, seed):
    records = records_with(people)
    splits = split_by_patient(records, FRACTIONS, seed)
    assert list(splits) == ["train", "val", "test"]
    names = [record.name for chosen in splits.values() for record in chosen]
    assert sorted(names) == sorted(record.name for record in records)
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not shared_patients(splits[a], splits[b])


@given(people, seeds)
@settings(max_examples=50)
def test_fractions_hold_over_all_and_in_each_stratum_within_a_few_patients(people, seed):
    records = records_with(people)
    splits = split_by_patient(records, FRACTIONS, seed)
    largest = max(size for size, _ in people)
    kind_of = {f"p{patient}": kind for patient, (_, kind) in enumerate(people)}
    for name, fraction in FRACTIONS.items():
        assert abs(len(splits[name]) - fraction * len(records)) <= 2 * largest
        for kind in set(kind_of.values()):
            whole = sum(kind_of[record.patient] == kind for record in records)
            there = sum(kind_of[record.patient] == kind for record in splits[name])
            assert abs(there - fraction * whole) <= 4 * largest


@given(people, seeds, st.randoms())
@settings(max_examples=50)
def test_a_split_does_not_depend_on_the_order_of_the_input(people, seed, random):
    records = records_with(people)
    expected = split_by_patient(records, FRACTIONS, seed)
    random.shuffle(records)
    assert split_by_patient(records, FRACTIONS, seed) == expected


def test_the_split_of_a_data_set_is_the_same_everywhere():
    splits = split_by_patient(records_with([(1, "")] * 10), {"train": 0.7, "test": 0.3}, seed=0)
    assert [record.patient for record in splits["test"]] == ["p0", "p1", "p7"]


def test_single_images_are_stratified_exactly():
    splits = split_by_patient(records_with([(1, kind) for kind in ["", "bacteria", "virus"] * 100]), FRACTIONS, seed=4)
    for name, fraction in FRACTIONS.items():
        counts = Counter(record.kind for record in splits[name])
        assert all(abs(counts[kind] - 100 * fraction) <= 1 for kind in (None, "bacteria", "virus")), counts


def test_images_that_have_a_split_keep_it_and_their_patient_follows():
    records = records_with([(2, "")] * 30)
    given = [Record(r.path, r.name, "test", 0, r.patient, None, None) if i < 21 else r for i, r in enumerate(records)]
    names = {record.patient for record in split_by_patient(given, {"train": 0.5, "test": 0.5}, 0)["test"]}
    assert names >= {f"p{i}" for i in range(11)}  # of p10 one image had a split
    torn = [*given, Record(Path("x"), "x", "val", 0, "p0", None, None)]
    with pytest.raises(DataError, match="a patient with images in test and val already"):
        split_by_patient(torn, {"train": 0.5, "test": 0.5}, 0)


def test_too_few_patients_and_wrong_fractions_are_refused():
    with pytest.raises(DataError, match="2 patients leave none for"):
        split_by_patient(records_with([(3, "")] * 2), FRACTIONS, 0)
    for wrong in ({"train": 0.5, "test": 0.6}, {"train": 1.0, "test": 0.0}, {"train": 1.2, "test": -0.2}):
        with pytest.raises(SettingsError, match="give fractions above 0 that sum to 1"):
            split_by_patient(records_with([(1, "")] * 9), wrong, 0)


@pytest.fixture
def unsplit(tmp_path) -> Path:
    for label in ("normal", "abnormal", "mask"):
        (tmp_path / "data" / label).mkdir(parents=True)
    for i in range(60):
        (tmp_path / "data" / "normal" / f"IM-{i // 3:04}-{i}.png").touch()
    for i in range(20):
        (tmp_path / "data" / "abnormal" / f"person{i // 2}_virus_{i}.png").touch()
        (tmp_path / "data" / "mask" / f"person{i // 2}_virus_{i}.png").touch()
    return tmp_path / "data"


def test_the_command_writes_a_manifest_that_works_in_the_data_folder(unsplit, tmp_path, capsys):
    out = tmp_path / "manifest.csv"
    assert code("data", "split", unsplit, "--out", out, "--test", 0.3, "--seed", 1) == 0
    assert "images of" in capsys.readouterr().out
    before = read_records(unsplit)
    out.rename(unsplit / "manifest.csv")
    after = {record.name: record for record in read_records(unsplit)}
    assert len(after) == len(before) == 80
    for old in before:
        new = after[old.name]
        assert (new.path, new.label, new.patient, new.mask) == (old.path, old.label, old.patient, old.mask)
    assert {record.split for record in after.values()} == {"train", "val", "test"}
    assert sum(record.split == "test" for record in after.values()) == pytest.approx(24, abs=3)
    assert not shared_patients(read_records(unsplit, "train"), read_records(unsplit, "test"))


def test_the_command_keeps_regions_and_names_no_column_that_stays_empty(unsplit, tmp_path):
    assert code("data", "split", unsplit, "--out", tmp_path / "plain.csv") == 0
    assert "region" not in (tmp_path / "plain.csv").read_text().splitlines()[0]
    first = read_records(unsplit)[0]
    (unsplit / "region").mkdir()
    (unsplit / "region" / f"{first.path.stem}.png").touch()
    before = {record.name: record.region for record in read_records(unsplit)}
    assert code("data", "split", unsplit, "--out", tmp_path / "manifest.csv") == 0
    (tmp_path / "manifest.csv").rename(unsplit / "manifest.csv")
    assert {record.name: record.region for record in read_records(unsplit)} == before
    assert sum(region is not None for region in before.values()) == 1


def test_the_command_overwrites_nothing_and_splits_nothing_twice(unsplit, tmp_path, capsys):
    out = tmp_path / "manifest.csv"
    assert code("data", "split", unsplit, "--out", out, "--val", 0) == 0
    written = out.read_bytes()
    assert code("data", "split", unsplit, "--out", out, "--seed", 1) == 2
    assert "is there already" in capsys.readouterr().err
    assert out.read_bytes() == written
    assert b",val," not in written
    out.rename(unsplit / "manifest.csv")
    assert code("data", "split", unsplit, "--out", out) == 2
    assert "every image has a split already" in capsys.readouterr().err
    assert code("data", "split", unsplit, "--out", tmp_path / "no" / "m.csv", "--test", 0.95) == 2


def test_the_folder_of_the_manifest_is_made_and_names_are_kept_on_request(tmp_path):
    names = ["Jane", "John", "Jim", "Joan"]
    rows = [f"{i}.png,{i % 2},{names[i // 4]}" for i in range(16)]
    for i in range(16):
        (tmp_path / f"{i}.png").touch()
    (tmp_path / "manifest.csv").write_text("\n".join(["path,label,patient", *rows]))
    for option in ([], ["--identify"]):
        out = tmp_path / "new" / f"{len(option)}.csv"
        assert code("data", "split", tmp_path, "--out", out, "--val", 0, "--test", 0.5, *option) == 0
        told = {row.split(",")[3] for row in out.read_text().splitlines()[1:]}
        assert told == (set(names) if option else set(map(pseudonym, names)))
        identify(False)


def test_a_manifest_with_patients_kinds_and_positions_keeps_them(tmp_path):
    rows = ["path,label,patient,kind,slice"]
    rows += [f"{i}.png,{i % 2},p{i // 4},{'tumour' if i % 2 else ''},{i % 4}" for i in range(80)]
    for i in range(80):
        (tmp_path / f"{i}.png").touch()
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    assert code("data", "split", tmp_path, "--out", tmp_path / "new.csv") == 0
    before = {record.name: record for record in read_records(tmp_path)}
    (tmp_path / "new.csv").rename(tmp_path / "manifest.csv")
    for record in read_records(tmp_path):
        old = before[record.name]
        assert (record.label, record.patient, record.kind, record.position) == (
            old.label,
            pseudonym(old.patient),
            old.kind,
            old.position,
        )
        assert record.split
