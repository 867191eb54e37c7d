"""The page of scores, as a reader meets it: in a browser, without a network, with names that mean harm."""

from __future__ import annotations

import csv
import json
import re
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from aeflow.artifacts.run import load_run
from aeflow.data.records import find_images, read_records
from aeflow.reporting.score_page import in_script, row
from aeflow.results.score_page import ScorePage, frame_of
from aeflow.scoring.score_files import score_files
from aeflow.scoring.scorer import Score, Scorer, score
from helpers.browser import found_in, needs_browser
from helpers.command import error_of, within

HARM = "<img src=x onerror=document.title='harm'><!--<script>.png"
MANY = 5000
TORCH = ("--backend", "torch")


@pytest.fixture(scope="module")
def page(tiny_run: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    """A page with names, and the rows of the table that was written with it."""
    folder = tmp_path_factory.mktemp("page")
    images = folder / "images"
    images.mkdir()
    for path in (data / "test" / "abnormal").iterdir():
        shutil.copy(path, images / path.name)
    shutil.copy(data / "test" / "normal" / "000.png", images / HARM)
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    places = ("--report", folder / "scores.html", "--out", folder / "scores.csv")
    within("score", tiny_run, images, *places, "--identify", *TORCH, ok=1)
    with (folder / "scores.csv").open(newline="") as file:
        return folder / "scores.html", list(csv.DictReader(file))


def rows_in(page: Path) -> list[list[object]]:
    block = re.search(r'id="rows">\n(.*?)</script>', page.read_text(), re.DOTALL)
    assert block
    return [json.loads(line) for line in block[1].splitlines()]


def test_it_is_one_file_with_every_row_of_the_table(page: tuple[Path, list[dict[str, str]]], tiny_run: Path) -> None:
    text, rows = page[0].read_text(), rows_in(page[0])
    assert not re.search(r"""(?:src|href)=["'](?!data:)|https?://|@import|url\(""", text.split('id="rows"')[0])
    assert "default-src 'none'" in text
    assert "Research use, not a medical device" in text
    assert load_run(tiny_run).scorer.fingerprint[:12] in text
    assert [one[0] for one in rows] == list(range(1, len(page[1]) + 1))
    for (_, name, _, value, p, outside, error, image, _), line in zip(rows, page[1], strict=True):
        assert name == f"image {line['path']}"
        assert ("" if value is None else str(value), "" if p is None else str(p)) == (line["score"], line["p_value"])
        assert (outside or "", error or "") == (line["outside"], line["error"])
        assert (image is None) == bool(error)


@needs_browser
def test_a_reader_sorts_filters_moves_the_threshold_and_uses_keys(
    page: tuple[Path, list[dict[str, str]]], tmp_path: Path
) -> None:
    found = found_in(
        page[0],
        """
        const byId = (id) => document.getElementById(id), say = (on, name) => on.dispatchEvent(new Event(name));
        const lines = () => [...document.querySelectorAll('#table tbody tr:not(.gap)')].map((line) => line.innerText);
        const pressed = (key) => new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true});
        const press = (key) => document.body.dispatchEvent(pressed(key));
        const slider = byId('slider');
        found.title = document.title;
        found.harm = document.querySelectorAll('img[src="x"]').length;
        found.first = lines();
        found.counts = byId('counts').textContent;
        slider.value = 0; say(slider, 'input');
        found.lowest = byId('counts').textContent;
        const of = (kind) => document.querySelectorAll(`#table .${kind}`).length;
        found.flipped = of('abnormal') - of('normal');
        byId('reset').click();
        found.back = byId('counts').textContent;
        byId('show').value = 'refused'; say(byId('show'), 'input');
        found.refused = lines();
        byId('show').value = 'all'; byId('find').value = 'onerror'; say(byId('find'), 'input');
        found.named = lines();
        byId('find').value = ''; say(byId('find'), 'input');
        document.querySelector('[data-by=row]').click();
        found.by_row = lines()[0];
        document.querySelector('#table tbody tr:not(.gap)').click();
        press('j'); press('j'); press('k');
        found.current = document.querySelector('[aria-current]').dataset.index;
        press('Enter'); press('ArrowDown');
        found.open = byId('large').open; found.large = byId('name').textContent;
        found.facts = byId('facts').textContent;
        press('m'); found.maps = getComputedStyle(byId('map')).display;
        byId('large').close(); press('?'); found.help = byId('help').open; byId('help').close();
        byId('single').checked = false; press('?'); found.quiet = byId('help').open;
        found.requests = performance.getEntriesByType('resource').filter((one) => !one.name.startsWith('data:')).length;
        """,
        tmp_path,
    )
    table = page[1]
    scored = sorted((line for line in table if line["score"]), key=lambda line: -float(line["score"]))
    assert (found["harm"], found["title"], found["requests"]) == (0, "Scores", 0)
    assert [next(line["path"] for line in table if line["path"] in shown) for shown in found["first"]][:5] == [
        line["path"] for line in scored[:5]
    ]
    abnormal = sum(line["verdict"] == "abnormal" for line in scored)
    assert found["counts"].startswith(f"{abnormal} of {len(scored)} (")
    assert re.search(r"expected of new normals: [\d.]+ %, seen among the held-out ones: \d+ of \d+ ", found["counts"])
    assert found["lowest"].startswith(f"{len(scored) - 1} of ") or found["lowest"].startswith(f"{len(scored)} of ")
    assert "other verdict than at " in found["lowest"]
    assert found["flipped"] > 3  # all in sight but the last
    assert found["back"] == found["counts"]
    assert len(found["refused"]) == 1
    assert "broken.png" in found["refused"][0]
    assert len(found["named"]) == 1
    assert HARM in found["named"][0]
    assert table[0]["path"] in found["by_row"]
    assert found["current"] == "1"
    assert found["open"] is found["help"] is True
    assert found["quiet"] is False
    assert table[2]["path"] in found["large"]
    assert f"threshold {float(scored[0]['threshold']):.4g}" in found["facts"] or "refused" in found["facts"]
    assert found["maps"] == "none"


@needs_browser
def test_five_thousand_images_stay_usable(tiny_run: Path, data: Path, tmp_path: Path) -> None:
    """Of real rows repeated: the document holds those in sight, and the threshold moves at once."""
    scorer = load_run(tiny_run).scorer
    scale = scorer.calibration.map_limits["anomaly"]
    few = [
        json.loads(row(1, "image", None, result, scale))
        for _, result in score(scorer, read_records(data, "test")[:8], maps=True, pictures=True)
        if isinstance(result, Score)
    ]
    start, end = frame_of(scorer)
    rng = np.random.default_rng(0)
    with (tmp_path / "many.html").open("w") as file:
        file.write(start)
        for number in range(1, MANY + 1):
            values = few[number % len(few)]
            file.write(in_script([number, *values[1:3], values[3] + rng.normal(), *values[4:]]) + "\n")
        file.write(end)
    found = found_in(
        tmp_path / "many.html",
        """
        const lines = () => [...document.querySelectorAll('#table tbody tr:not(.gap)')];
        found.title = document.querySelector('h1').textContent;
        found.lines = lines().length;
        found.tall = document.getElementById('table').offsetHeight;
        scrollTo(0, found.tall); dispatchEvent(new Event('scroll'));
        found.last = lines().at(-1).cells[0].innerText;
        const slider = document.getElementById('slider'), began = performance.now();
        slider.value = slider.max / 2; slider.dispatchEvent(new Event('input'));
        found.seconds = (performance.now() - began) / 1000;
        """,
        tmp_path,
    )
    assert found["title"] == "Scores of 5,000 images"
    assert 0 < found["lines"] < 60
    assert found["tall"] > MANY * 90
    assert found["last"] == "5,000"
    assert found["seconds"] < 5  # a tenth of a second where nothing else runs


def test_writing_it_takes_no_memory(tiny_run: Path, data: Path, tmp_path: Path) -> None:
    scorer = load_run(tiny_run).scorer
    [(record, result)] = score(scorer, read_records(data, "test")[:1], maps=True, pictures=True)

    def peak(rows: int) -> int:
        tracemalloc.reset_peak()
        with ScorePage(tmp_path / "scores.html", scorer, overwrite=True) as page:
            for number in range(1, rows + 1):
                page.add(number, record, result)
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        peak(2)
        few, many = peak(20), peak(200)
    finally:
        tracemalloc.stop()
    assert many < few + 200_000
    assert len(rows_in(tmp_path / "scores.html")) == 200


def test_files_are_pseudonyms_by_default_and_the_name_says_html(tiny_run: Path, data: Path, tmp_path: Path) -> None:
    images = find_images([data / "test" / "normal"])[:2]
    scorer: Scorer = load_run(tiny_run).scorer
    score_files(scorer, images, [ScorePage(tmp_path / "scores.html", scorer)])
    assert all(re.fullmatch(r"image [0-9a-f]{12}", str(one[1])) for one in rows_in(tmp_path / "scores.html"))
    line = error_of("score", tiny_run, images[0].path, "--report", tmp_path / "scores.pdf", *TORCH)
    assert line == f"{tmp_path}/scores.pdf: the name does not say HTML; end it in .html"
