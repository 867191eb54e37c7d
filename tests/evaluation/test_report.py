"""The report: one file that loads nothing, says what was measured and gives nobody away."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from aeflow.errors import DataError
from aeflow.evaluation import plots
from aeflow.evaluation.report import FIGURES, write_model_card, write_report
from aeflow.metrics.image import image_metrics
from aeflow.reporting.html import public

VOID = {"meta", "link", "img", "br", "hr", "input"}
EVIL = "<script>alert('x')</script>"


class Threshold:
    value, rule, source = 0.8, "at most 5 % of normal images above", "held-out train normals"


class Page(HTMLParser):
    """A page that closes every tag it opens, as tags and plain text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag in ("td", "th", "p", "div", "dd", "dt"):
            self.text += " "

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def measured(n_normal: int = 40, n_abnormal: int = 60, shift: float = 0.0) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], [n_normal, n_abnormal])
    scores = generator.normal(size=len(labels)) + 2 * labels + shift
    metrics = image_metrics(scores, labels, [str(i) for i in range(len(labels))], Threshold())
    return {"split": "test", **metrics, "pixel": None, "seed": 0}


def pixel() -> dict[str, Any]:
    metric = {"value": 0.912, "low": 0.901, "high": 0.923, "interval": "patient bootstrap"}
    result = {"n_images": 9, "n_regions": 11, "n_patients": 5, "threshold": 1.0, "fpr_limit": 0.3}
    return {**result, "auroc": metric, "aupro": metric, "dice": metric, "oracle": {"dice": metric}}


RUN = {
    "settings": {
        "encoder": "tf_efficientnet_lite0",
        "stages": [3, 4],
        "false_positive_rate": 0.05,
        "standardise": True,
    },
    "training": {"normal_images": 1073, "held_out_images": 268, "seconds": 12.5},
    "version": "0.1.0",
    "rate": 0.05,  # of the threshold, which few held-out normals may have raised
}
HISTORY = [{"epoch": 1, "seconds": 2.0, "best": 0}, {"epoch": 2, "seconds": 3.0, "best": 1}]


def figures() -> dict[str, Figure | bytes]:
    small: dict[str, Figure | bytes] = dict.fromkeys(FIGURES, b"\x89PNG")
    return small | {"scores": plots.score_distributions([0.0, 1.0], [2.0], 1.5)}


def report(tmp_path: Path, **changes: Any) -> Page:
    given: dict[str, Any] = {
        "title": "chest, split test",
        "run": RUN,
        "metrics": measured(),
        "history": HISTORY,
        "figures": figures(),
        "refusals": [],
    }
    write_report(tmp_path / "report.html", **{**given, **changes})
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def card(tmp_path: Path, **changes: Any) -> str:
    write_model_card(tmp_path / "model_card.md", **{"run": RUN, "metrics": measured(), **changes})
    return (tmp_path / "model_card.md").read_text(encoding="utf-8")


# One file


def test_nothing_is_loaded_and_nothing_runs(tmp_path: Path) -> None:
    page = report(tmp_path, metrics={**measured(), "pixel": {"anomaly": pixel()}})
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "form"}
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "action", "poster"):
            value = attributes.get(name) or ("data:" if tag == "img" else "#")
            assert value.startswith("data:image/png;base64," if tag == "img" and name == "src" else ("#", "data:"))
    raw = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import", re.sub(r"base64,[\w+/=]*", "", raw))
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_the_page_is_accessible(tmp_path: Path) -> None:
    page = report(tmp_path, refusals=[{"path": "a.png", "error": "truncated"}])
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("img")) == len(FIGURES)
    assert all(len(image["alt"] or "") > 20 for image in page.all("img"))
    assert all(header.get("scope") for header in page.all("th"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert max(ids.values()) == 1
    assert {str(link["href"])[1:] for link in page.all("a")} <= ids.keys()


def test_light_dark_and_print(tmp_path: Path) -> None:
    report(tmp_path)
    raw = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in raw
    assert "@media print" in raw


# What it says


def test_every_metric_is_shown_with_its_interval(tmp_path: Path) -> None:
    metrics = {**measured(), "pixel": {"residual": pixel(), "anomaly": None}}
    words, text = report(tmp_path, metrics=metrics).words, card(tmp_path, metrics=metrics)
    names = ["auroc", "average_precision", "f1", "accuracy", "sensitivity", "specificity"]
    for metric in [metrics[name] for name in names] + [*metrics["all_abnormal"].values(), pixel()["aupro"]]:
        shown = f"{metric['low']:.3f} to {metric['high']:.3f}"
        assert shown in words
        assert shown in text
        assert f"{metric['value']:.3f}" in words
    assert "40 normal and 60 abnormal images of 100 patients" in words
    assert "Rule: at most 5 % of normal images above" in words
    assert "comes from held-out train normals" in words


def test_the_plain_reading_follows_from_the_rates(tmp_path: Path) -> None:
    rate = {"low": 0.8, "high": 0.95, "interval": "wilson"}
    metrics = {**measured(), "specificity": {"value": 0.9, **rate}, "sensitivity": {"value": 0.85, **rate}}
    words = report(tmp_path, metrics=metrics).words
    assert "Of 100 normal images, about 10 would be flagged by mistake (5 to 20)." in words
    assert "Of 100 abnormal images, about 85 would be flagged (80 to 95) and 15 missed." in words


def test_more_false_alarms_than_allowed_are_told_and_only_then(tmp_path: Path) -> None:
    shifted = measured(shift=1.0)
    assert 1 - shifted["specificity"]["high"] > 0.05
    assert "More false alarms than the threshold allows" in report(tmp_path, metrics=shifted).words
    assert "More false alarms than the threshold allows" in card(tmp_path, metrics=shifted)
    few = {**RUN, "rate": 0.9}
    assert "More false alarms" not in report(tmp_path, run=few, metrics=shifted).words
    calm = measured(shift=-1.0)
    assert "More false alarms" not in report(tmp_path, metrics=calm).words
    assert "More false alarms" not in card(tmp_path, metrics=calm)


def test_the_oracle_stands_apart_and_is_named_so(tmp_path: Path) -> None:
    metrics = {**measured(), "oracle": {**measured()["oracle"], "f1": {**measured()["f1"], "value": 0.98765}}}
    words = report(tmp_path, metrics=metrics).words
    before, after = words.split("Oracle: the best threshold of this very split")
    assert "0.988" in after
    assert "0.988" not in before
    assert "0.988" not in card(tmp_path, metrics=metrics)


def test_one_class_no_metrics_and_no_training_still_make_a_page(tmp_path: Path) -> None:
    alone = report(tmp_path, metrics=measured(n_abnormal=0), figures={}, history=[])
    assert "No abnormal images" in alone.words
    assert "not defined on these images" in alone.words
    assert "Oracle" not in alone.text
    bare = report(tmp_path, metrics=None, run={"settings": {"encoder": "x"}}, history=[], figures={})
    assert "has not been evaluated" in bare.words
    assert "Not recorded in this model" in bare.words
    text = card(tmp_path, metrics=None, run={"settings": {"encoder": "x"}})
    assert "Not yet evaluated." in text
    assert "Not recorded in this model." in text
    assert "No abnormal images" in card(tmp_path, metrics=measured(n_abnormal=0))


def test_settings_training_and_refusals_are_listed(tmp_path: Path) -> None:
    words = report(tmp_path, refusals=[{"path": "test/normal/a.png", "error": "truncated; copy it again"}]).words
    for part in (
        "false positive rate 0.05",
        "stages 3, 4",
        "standardise yes",
        "held out images 268",
        "2 epochs in 5 s",
    ):
        assert part in words
    assert "test/normal/a.png truncated; copy it again" in words
    assert "1 image refused" in words


def test_every_figure_has_a_place_and_others_are_named(tmp_path: Path) -> None:
    words = report(tmp_path).words
    assert all(figure.heading in words and figure.caption in words for figure in FIGURES.values())
    with pytest.raises(DataError, match="'pie'"):
        report(tmp_path, figures={"pie": b""})


def test_limits_and_use_are_stated(tmp_path: Path) -> None:
    for text in (report(tmp_path).words, card(tmp_path)):
        assert "not a medical device" in text.lower()
        assert "no proof of health" in text


def test_the_model_card_says_what_was_chosen(tmp_path: Path) -> None:
    chosen = {"settings": {**RUN["settings"], "log_det_weight": 0.25}, "log_det_weights": {"0.25": 0.652, "0.5": 0.646}}
    text = card(tmp_path, run={**RUN, **chosen})
    assert "counts 0.25 of the flow's log-determinant: of 2 weights" in text
    assert "(AUROC 0.652)" in text
    assert "log-determinant" not in card(tmp_path)  # a run that names its weight


def test_the_model_card_cites_both_papers(tmp_path: Path) -> None:
    text = card(tmp_path)
    for part in ("Zhao, Yuzhong and Ding, Qiaoqiao and Zhang, Xiaoqun", "Izmailov", "{AE-FLOW}", "{2023}", "{2020}"):
        assert part in text
    assert text.startswith("# Model card\n")
    assert "| normal images | 1073 |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} <= {3, 5}


# Whom it gives away


def test_given_text_is_escaped(tmp_path: Path) -> None:
    evil = {
        "title": EVIL,
        "run": {"settings": {EVIL: EVIL, "encoder": EVIL}, "training": {EVIL: EVIL}, "version": EVIL},
        "metrics": {**measured(), "split": EVIL, "threshold": {"value": 1.0, "rule": EVIL, "from": EVIL}},
        "refusals": [{"path": f"{EVIL}.png", "error": EVIL}],
    }
    page = report(tmp_path, **evil)
    assert not page.all("script")
    assert page.text.count(EVIL) >= 8
    text = card(tmp_path, run=evil["run"], metrics=evil["metrics"])
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_given_text_cannot_break_the_tables_of_the_card(tmp_path: Path) -> None:
    text = card(tmp_path, run={**RUN, "training": {"a|b": "x|y\n# z", "c": "[l](javascript:1)"}})
    assert r"| a\|b | x\|y \# z |" in text
    assert r"\[l\](javascript:1)" in text


def test_folders_and_users_are_left_out(tmp_path: Path) -> None:
    run = {"settings": {"encoder": "x", "weights": "/home/jane doe/w/a b.pt", "other": r"C:\Users\jane\w.pt"}}
    path = "/srv/clinic jane/scan 7.png"
    refusals = [{"path": path, "error": f"{path}: truncated; see /home/jane/help.txt, ~/jane/x or 1/2"}]
    page = report(tmp_path, run=run, refusals=refusals)
    card(tmp_path, run=run)
    for name in ("report.html", "model_card.md"):
        raw = (tmp_path / name).read_text(encoding="utf-8")
        assert not re.search("jane|/srv|/home|clinic|Users", raw)
    assert "scan 7.png scan 7.png: truncated; see help.txt, x or 1/2" in page.words
    assert "a b.pt" in page.words


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "none"),
        (True, "yes"),
        (0.1 + 0.2, "0.3"),
        (7, "7"),
        ([3, 4], "3, 4"),
        ("train/normal/a.png", "train/normal/a.png"),
        ("/a/b/c/", "c"),
        (r"\\host\share\c.png", "c.png"),
        ("10 images/s and/or 3 // 4", "10 images/s and/or 3 // 4"),
        (["/a/b/c.png", "d"], "c.png, d"),
        ("see file:///home/jane/x.png", "see file:x.png"),
    ],
)
def test_values_for_strangers(value: object, expected: str) -> None:
    assert public(value) == expected
