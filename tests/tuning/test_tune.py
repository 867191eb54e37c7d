"""aeflow tune: never worse than the preset on the proxy, resumable, within its budget, blind to the test split."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from aeflow.cli import main
from aeflow.config import OF_A_RUN, PRESETS, Settings, make_settings, preset_text
from aeflow.errors import ArtifactError, NumericalError, SettingsError
from aeflow.features.arithmetic import Arithmetic
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder import strides_of
from aeflow.model.encoder_weights import EMBEDDED, pretrained
from aeflow.tuning import tune as tuning
from aeflow.tuning.report import declared, finding
from aeflow.tuning.search_space import SearchSpace
from aeflow.tuning.trial_database import STUDY, open_study, stored
from aeflow.tuning.tune import Tuned, seconds_of, tune
from helpers.damage import flips
from helpers.data import TINY, small_settings, write_data

optuna = pytest.importorskip("optuna")

SMALL = {
    "encoder": TINY,
    "stages": (3,),
    "image_size": 64,
    "hidden": 8,
    "flow_steps": 2,
    "updates": 4,
    "batch_size": 16,
}
CALL = [sys.executable, "-c", "from aeflow.cli import main; main()", "tune"]
SETS = [f"--set={name}={3 if name == 'stages' else value}" for name, value in SMALL.items()]
LONG = 3600.0  # seconds: no end of a test


@pytest.fixture(scope="module")
def settings() -> Settings:
    return make_settings(**SMALL)


@pytest.fixture(scope="module")
def weights(tiny_weights: Path) -> Path:
    return tiny_weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("tune") / "data", train=32, test=2)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tune") / "an out folder"


@pytest.fixture(scope="module")
def found(folder: Path, out: Path, settings: Settings, weights: Path) -> Tuned:
    return tune(folder, out, settings, LONG, trials=3, encoder_weights=weights, device="cpu")


def trials_in(out: Path) -> list[optuna.trial.FrozenTrial]:
    study = optuna.load_study(study_name="aeflow tune", storage=f"sqlite:///{out / 'tune.db'}")
    return study.get_trials(deepcopy=False)


def begun(out: Path) -> int:
    """How many trials a search that is running has begun; read without a lock."""
    if not (out / "tune.db").exists():
        return 0
    with closing(sqlite3.connect(f"file:{out / 'tune.db'}?mode=ro", uri=True)) as database:
        try:
            return int(database.execute("select count(*) from trials where state != 'WAITING'").fetchone()[0])
        except sqlite3.OperationalError:  # its tables are being made
            return 0


def wait_for(out: Path, count: int) -> None:
    ends = time.monotonic() + 300  # other work may run beside
    while begun(out) < count:
        assert time.monotonic() < ends
        time.sleep(0.05)


@contextmanager
def search(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a search in a process of its own, which is over when the context is."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, "--device", "cpu"], **quiet) as process:
        try:
            yield process
        finally:
            process.kill()


def test_it_is_never_worse_than_the_preset(found: Tuned, settings: Settings) -> None:
    facts = found.summary
    first = facts["trials"][0]
    assert facts["default"]["trial"] == 0
    assert first["settings"] == {**{name: getattr(settings, name) for name in first["settings"]}, "stages": "3"}
    assert len(facts["trials"]) == 3
    values = [trial["value"] for trial in facts["trials"] if trial["value"] is not None]
    assert facts["best"]["value"] == max(values) >= first["value"] >= facts["default"]["value"]
    again = facts["confirmed"]
    if again is None or again["best"]["value"] <= again["default"]["value"]:
        assert found.settings == settings
        assert not facts["changed"]


@pytest.mark.torture
def test_the_budget_is_kept_and_a_larger_one_goes_on_as_if_it_had_been_so_from_the_start(
    found: Tuned, folder: Path, settings: Settings, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"--budget: it ended (before all features|in the first training)"):
        tune(folder, tmp_path, settings, 0.01, encoder_weights=weights, device="cpu")
    tic = time.perf_counter()
    facts = tune(folder, tmp_path, settings, 15.0, encoder_weights=weights, device="cpu").summary
    assert time.perf_counter() - tic < 15 + 5
    done = len(facts["trials"])
    more = tune(folder, tmp_path, settings, LONG, trials=max(2, done), encoder_weights=weights, device="cpu").summary
    assert more["trials"][:done] == facts["trials"]
    assert len(more["trials"]) > 1
    for one, other in zip(more["trials"][:2], found.summary["trials"], strict=False):
        if one["state"] == "finished":  # the budget may have cut it off
            assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_the_preset_file_gives_the_settings_back(found: Tuned, out: Path) -> None:
    assert make_settings(out / "preset.json") == found.settings
    assert make_settings(str(out / "preset.json"), seed=3).seed == 3
    changed = {name: change["to"] for name, change in found.summary["changed"].items()}
    assert json.loads((out / "preset.json").read_text())["preset"].items() >= changed.items()


def test_the_same_command_again_trains_nothing_and_needs_no_test_split(
    found: Tuned, folder: Path, out: Path, settings: Settings, weights: Path, tmp_path: Path
) -> None:
    without = tmp_path / "without"
    shutil.copytree(folder, without)
    shutil.rmtree(without / "test")
    again = tune(without, out, settings, LONG, trials=3, encoder_weights=weights, device="cpu")
    assert again.summary == found.summary


def test_no_name_of_a_file_is_written(found: Tuned, folder: Path, out: Path) -> None:
    written = {path.name: path.read_bytes() for path in out.iterdir()}
    assert written.keys() == {"preset.json", "tune.db", "tune.html", "tune.json", "tune.lock"}
    for name, content in written.items():
        for word in (str(folder), folder.parent.name, "train/normal", "000.png"):
            assert word.encode() not in content, name


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_says_what_the_choice_rests_on(found: Tuned, out: Path) -> None:
    page, reader = (out / "tune.html").read_text(), _Reader()
    reader.feed(page)
    assert "6 abnormal images of the train split were used to choose" in reader.text
    assert "No test image was looked at" in reader.text
    assert f"{found.summary['best']['value']:.4f}" in reader.text
    assert page.count("<tr") > len(found.summary["trials"])
    alone = {**found.summary, "images": {**found.summary["images"], "abnormal": 0}}
    assert "synthetic anomalies alone" in declared(alone)


@pytest.mark.parametrize(
    ("again", "best", "changed", "said"),
    [
        (None, 1, {}, "Nothing better"),
        (None, 2, {}, "not tried with another seed: too little time. The preset stays as it was"),
        ({"best": 2}, 2, {"beta": {"from": 0.9, "to": 0.5}}, "Changed: beta=0.5 (also ahead with another seed"),
        ({"best": 1}, 2, {}, "no better with another seed"),
    ],
)
def test_the_finding_follows_from_what_was_found(again: object, best: float, changed: object, said: str) -> None:
    values = {"default": {"value": 1}, "best": {"value": best}}
    assert said in finding({"confirmed": again, "changed": changed, **values})


def test_another_search_in_the_same_folder_is_refused(found: Tuned, folder: Path, out: Path, weights: Path) -> None:
    with pytest.raises(ArtifactError, match="holds a search on other images or settings; choose another --out"):
        tune(folder, out, make_settings(**SMALL, beta=0.3), LONG, encoder_weights=weights, device="cpu")


def content_of(folder: Path) -> dict[str, object]:
    """All that counts of a search: what is said of it, and what the next trial is drawn from."""
    study = optuna.load_study(study_name=STUDY, storage=f"sqlite:///{folder / 'tune.db'}")
    trials = [
        (t.number, t.state, t.value, t.params, t.distributions, t.intermediate_values, t.user_attrs)
        for t in study.get_trials(deepcopy=False)
    ]
    return {"trials": trials, "attributes": study.user_attrs, "direction": study.direction}


def test_no_flipped_bit_passes_for_a_result(found: Tuned, out: Path, tmp_path: Path) -> None:
    shutil.copy(out / "tune.db", tmp_path)
    arithmetic = Arithmetic(
        **{k: v for k, v in found.summary["arithmetic"][-1].items() if k not in ("optuna", "aeflow")}
    )
    task = stored(optuna.load_study(study_name=STUDY, storage=f"sqlite:///{tmp_path / 'tune.db'}"), "task")
    want, file, nothing = content_of(tmp_path), tmp_path / "tune.db", optuna.pruners.NopPruner()
    open_study(file, task, arithmetic, nothing)
    for _ in flips(file, 12):
        try:
            open_study(file, task, arithmetic, nothing)
        except ArtifactError as error:
            assert re.search("tune.db: (damaged|cannot be read|holds a search)", str(error))  # noqa: PT017
        else:  # where nothing counts
            assert content_of(tmp_path) == want
    whole = file.read_bytes()
    for trial in trials_in(out):
        if trial.state.name == "COMPLETE":
            last = whole.index(struct.pack(">d", trial.value)) + 7  # SQLite's way to store a number
            file.write_bytes(whole[:last] + bytes([whole[last] ^ 1]) + whole[last + 1 :])
            with pytest.raises(ArtifactError, match=r"tune.db: damaged: it is not as it was written; choose another"):
                open_study(file, task, arithmetic, nothing)


@pytest.mark.parametrize(
    "change",
    [
        "update trial_values set value = value + 1e-9 where trial_id = 1",
        "update trial_params set param_value = param_value + 1 where trial_id = 2",
        "update trial_intermediate_values set intermediate_value = 0.5",
        "update trial_user_attributes set value_json = replace(value_json, '0.', '1.') where key = 'figures'",
        "delete from trial_user_attributes where key = 'figures'",
        "update study_user_attributes set value_json = replace(value_json, '1', '2') where key = 'feature_seconds'",
        "update study_user_attributes set key = 'tesk' where key = 'task'",
        "delete from trials where number = 1",
        "update trials set study_id = 3 where number = 2",
        "update studies set study_name = 'aeflow tuna'",
    ],
)
def test_a_changed_value_is_noticed(
    change: str, found: Tuned, folder: Path, out: Path, settings: Settings, weights: Path, tmp_path: Path
) -> None:
    shutil.copy(out / "tune.db", tmp_path)
    with closing(sqlite3.connect(tmp_path / "tune.db")) as database, database:
        assert database.execute(change).rowcount > 0
    with pytest.raises(ArtifactError, match=r"tune.db: (damaged: it is not as it was written|cannot be read)"):
        open_study(tmp_path / "tune.db", "a task", Arithmetic("", "", 1, 1, ""), optuna.pruners.NopPruner())


def test_another_arithmetic_is_noted(
    found: Tuned,
    folder: Path,
    out: Path,
    settings: Settings,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(out / "tune.db", tmp_path)
    arguments = {"trials": 3, "encoder_weights": weights, "device": "cpu"}
    tune(folder, tmp_path, settings, LONG, **arguments)
    assert "goes on" not in capsys.readouterr().err
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        again = tune(folder, tmp_path, settings, LONG, **arguments)
    finally:
        torch.set_num_threads(threads)
    said = f"goes on with another arithmetic: threads {threads}, now {threads + 1}; its values may differ"
    assert said in capsys.readouterr().err
    assert [one["threads"] for one in again.summary["arithmetic"]] == [threads, threads + 1]
    assert again.summary["trials"] == found.summary["trials"]


@pytest.mark.torture
def test_a_killed_search_goes_on(folder: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [*CALL, str(folder), "--out", str(out), "--budget", "1h", *SETS, "--encoder-weights", str(weights)]
    with search(command) as process:
        wait_for(out, 2)
        process.kill()
    before = trials_in(out)
    done = [trial for trial in before if trial.state.name == "COMPLETE"]
    assert done

    # In a process of its own, as a user's: in this one OpenVINO has left a stack for signals that no handler survives.
    with search(command) as process:
        wait_for(out, len(before) + 2)
        process.terminate()
        _, err = process.communicate()
    assert process.returncode == 130, err  # as after Ctrl-C, and orderly: what is finished is written
    after = trials_in(out)
    assert [(trial.params, trial.value) for trial in after[: len(done)]] == [(t.params, t.value) for t in done]
    for trial in before:
        if trial.state.name == "RUNNING":
            [again] = [one for one in after if one.user_attrs.get("retry_of") == trial.number]
            assert again.params.items() >= trial.params.items()  # killed while they were drawn, it had a part of them
    assert not any(trial.state.name == "RUNNING" for trial in after)
    facts = json.loads((out / "tune.json").read_text())
    assert sum(trial["value"] is not None for trial in facts["trials"]) > len(done)
    assert make_settings(out / "preset.json").encoder == TINY


def test_the_command_prints_what_was_found(
    found: Tuned, folder: Path, out: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The time is spent already: nothing is trained.
    words = ["tune", str(folder), "--out", str(out), "--budget", "1s", *SETS, "--encoder-weights", str(weights)]
    printed = []
    for form in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--device", "cpu", *form])
        assert ended.value.code == 0
        printed.append(capsys.readouterr().out)
    assert f"preset: {out / 'preset.json'}" in printed[0]
    assert "3 trials" in printed[0]
    assert f"{found.summary['best']['value']:.4f}" in printed[0]
    assert "6 abnormal images of the train split were used to choose" in printed[0]
    assert {**json.loads(printed[1]), "budget_seconds": LONG} == json.loads(json.dumps(found.summary))


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with tuning._alone(tmp_path), pytest.raises(ArtifactError, match="another process tunes here"):
        tuning._alone(tmp_path).__enter__()


def test_a_preset_that_cannot_be_trained_says_so(folder: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(NumericalError):
        tune(folder, tmp_path, make_settings(**SMALL, learning_rate=1e30), LONG, encoder_weights=weights, device="cpu")


def test_what_is_missing_or_wrong_is_named(
    folder: Path, settings: Settings, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="only normals-only models are tuned"):
        tune(folder, tmp_path, make_settings(classifier="mixture"), LONG)
    only_fitted = make_settings(**SMALL, looks_for="diffuse")
    with pytest.raises(SettingsError, match="sums pooled_energy, and none of them is trained; there is nothing to"):
        tune(folder, tmp_path / "fitted", only_fitted, LONG, encoder_weights=weights, device="cpu")
    (tmp_path / "tune.db").write_bytes(b"no database " * 100)
    with pytest.raises(ArtifactError, match=r"tune.db: cannot be read \(DatabaseError\); choose another --out"):
        tune(folder, tmp_path, settings, LONG, encoder_weights=weights, device="cpu")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SettingsError, match=r"optuna: is not installed; pip install 'aeflow\[tune\]'"):
        tune(folder, tmp_path, settings, LONG)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), (" 2 m ", 120)])
def test_a_budget_is_a_time(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "0m", "-5m", "m", "1d", "30m20s"])
def test_other_budgets_are_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SettingsError, match="write for instance 90s, 30m or 2h"):
        seconds_of(text)


def test_a_wrong_budget_is_one_line_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tune", str(tmp_path), "--out", str(tmp_path / "out"), "--budget", "long"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: --budget: 'long' is no time; write for instance 90s, 30m or 2h\n"


@pytest.mark.parametrize("preset", PRESETS)
def test_the_preset_lies_in_its_own_space(preset: str) -> None:
    base = make_settings(preset)
    space = SearchSpace(base, strides_of(base.encoder))
    for name, value in space.default().items():
        distribution = space.distributions[name]
        assert distribution._contains(distribution.to_internal_repr(value)), name
    assert space.settings(space.default()) == base
    readings = space.readings(base)
    assert readings[0] == base
    assert len({one.model_dump_json() for one in readings}) == len(readings)
    tried = {name: {getattr(one, name) for one in readings} for name in ("log_det_weight", "top_share", "beta")}
    assert min(len(tried[name]) for name in ("log_det_weight", "top_share")) > 1
    assert (len(tried["beta"]) > 1) == ("reconstruction" in base.chosen_terms)  # else it changes no score
    others = set(Settings.model_fields) - {"log_det_weight", "top_share", "beta", "two_sided"}
    assert all(one.model_dump(include=others) == base.model_dump(include=others) for one in readings)


@pytest.mark.parametrize("preset", ["default", "aeflow-1"])
@pytest.mark.parametrize("stages", [(2,), (3,), (4,), (2, 3)])
def test_every_stage_of_a_space_makes_a_model(preset: str, stages: tuple[int, ...]) -> None:
    widths = {2: (32, 16), 3: (64, 32, 16), 4: (128, 64, 32, 16)}[stages[-1]]
    base = small_settings(preset=preset, stages=stages, decoder=widths)
    space = SearchSpace(base, strides_of(EMBEDDED))
    encoder = pretrained(EMBEDDED, space.widest.encoder_stages)
    assert len(space.choices) == 3
    for choice in space.choices:
        settings = space.settings({**space.default(), "stages": ",".join(map(str, choice))})
        assert settings.stages == choice
        AEFlow(settings, encoder)  # a decoder that does not fit is refused


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read as JSON (JSONDecodeError); give the preset.json that aeflow tune wrote"),
        ("[1]", 'holds no preset; write {"preset": {"NAME": VALUE, ...}}'),
        ('{"preset": 3}', "holds no preset"),
        ('{"preset": {"hiden": 3}}', "no such setting: hiden; do you mean hidden?"),
        ('{"preset": {"seed": 3}}', "seed belongs to a run, not to a preset; take it out; use --set seed=..."),
        ('{"preset": {"beta": 3}}', "beta: 3 is not allowed; give at most 1"),
    ],
)
def test_a_bad_preset_file_is_told(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "preset.json"
    path.write_text(content)
    with pytest.raises(SettingsError) as raised:
        make_settings(path)
    assert said in str(raised.value)


def test_a_preset_file_holds_all_settings_but_those_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "preset.json").write_text(preset_text(make_settings("paper", seed=7)))
    assert make_settings(tmp_path / "preset.json") == make_settings("paper")
    chosen = json.loads((tmp_path / "preset.json").read_text())["preset"]
    assert chosen.keys() == Settings.model_fields.keys() - set(OF_A_RUN)
    assert make_settings(tmp_path / "preset.json", labels=3).classifier == "mixture"
    known = "choose one of default, large, aeflow-1, paper, or give a file that aeflow tune wrote"
    with pytest.raises(SettingsError, match=known):
        make_settings(tmp_path / "nothing.json")
