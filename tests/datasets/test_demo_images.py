"""The images of the demo: those of the sample, byte for byte, with their licence."""

from __future__ import annotations

from pathlib import Path

from aeflow.datasets.demo_images import CREDIT, FILE, KINDS, NAMES, NEW_OF_EACH, NORMALS, write_demo_images
from helpers.data import SAMPLE


def test_they_are_of_the_sample_and_say_where_it_is_from(tmp_path: Path) -> None:
    assert FILE.stat().st_size < 2 * 2**20
    write_demo_images(tmp_path)
    found = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert found.keys() == {*NAMES}
    known = {
        split: {path.read_bytes() for path in (SAMPLE / split).iterdir()}
        for split in ("train/normal", "val/normal", "val/abnormal")
    }
    assert CREDIT in found["README.txt"].decode()
    assert CREDIT.split(", doi")[0].split(" et al")[0] in (SAMPLE / "README.md").read_text()
    sides = {"normal/": ("train/normal", NORMALS)}
    sides |= {
        f"new/{kind}-": (f"val/{name}", NEW_OF_EACH) for kind, name in zip(KINDS, ("normal", "abnormal"), strict=True)
    }
    for start, (split, number) in sides.items():
        images = [content for name, content in found.items() if name.startswith(start)]
        assert len(set(images)) == number
        assert {*images} <= known[split]
