"""The list of settings: complete, explained, and as ``--set`` takes them."""

from __future__ import annotations

import json
import re

from aeflow.cli.settings import all_settings, shown
from aeflow.config import Settings, make_settings, parse_changes
from helpers.command import error_of, within


def test_every_setting_is_listed_once_with_a_sentence_and_its_default() -> None:
    found = {one.name: one for one in all_settings()}
    assert found.keys() == Settings.model_fields.keys()
    assert all(one.section and one.sentence for one in found.values())
    given = [f"{name}={shown(one.default)}" for name, one in found.items() if one.default is not None]
    assert make_settings("default", **parse_changes(given)) == make_settings("default")


def test_the_command_shows_them_to_people_and_programs() -> None:
    text, _ = within("settings")
    assert "false_positive_rate" in text
    assert re.search(r"^encoder +tf_efficientnet_lite0 +any timm network", text, re.MULTILINE)
    assert not re.search(r"[A-Z]{3,}_|[a-z]\.[a-z]|[│━]|True|False", text)  # no names of the source, no boxes
    assert re.fullmatch(r"setting .*\nepochs +None +from 1 .*\n", within("settings", "epochs")[0])
    assert error_of("settings", "epoch") == "epoch: no such setting; do you mean epochs? aeflow settings lists all"
    listed = json.loads(within("settings", "--json")[0])
    assert {"name": "image_size", "default": 224, "range": "from 32 to 2048"}.items() <= listed[2].items()
