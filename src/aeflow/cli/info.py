"""The command ``aeflow info``: facts of a trained model, or of an archive."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from aeflow._version import __version__
from aeflow.cli.options import Json, app
from aeflow.cli.output import print_json
from aeflow.errors import SettingsError, count, printable
from aeflow.runtime.terminal import print


@app.command()
def info(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of a trained model, the file of an exported one, or an archive.", show_default=False
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Doctor: try what a score needs of this machine, and the model if named.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what a model is, what it was trained on, and its threshold; or check the installation."""
    from aeflow.archive.folder import ArchiveFolder, is_archive, read_state
    from aeflow.artifacts.layout import read_metadata

    if check:
        _check(run, as_json)
        return
    if run is None:
        raise SettingsError(
            "RUN", "no model or archive is named", "name one; without one, aeflow info --check checks the installation"
        )
    if is_archive(run):
        from aeflow.cli.archive import lines_of

        state, there = read_state(run), len(ArchiveFolder(run).parts())
        if as_json:
            print_json({"complete": state.complete, "parts": there, **state.model_dump()})
        else:
            _print_lines(lines_of(state, there))
        return
    metadata = read_metadata(run)
    if as_json:
        print_json(metadata)
    else:
        _print_lines(_facts(metadata))


def _print_lines(shown: Mapping[str, object]) -> None:
    for name, value in shown.items():
        print(f"{printable(name):20} {printable(str(value))}")


def _facts(metadata: dict[str, Any]) -> dict[str, str]:
    """Return what a model is, line by line: first what its scores mean, last how long its training took."""
    settings, calibration, training = metadata["settings"], metadata["calibration"], dict(metadata["training"])
    timings = {name: training.pop(name) for name in [*training] if name.endswith(("seconds", "_per_second"))}
    kept, held_out = (int(training.pop(name, 0)) for name in ("normal_images", "held_out_images"))
    if not training.get("epochs"):  # without a flow there is none
        training = {name: value for name, value in training.items() if name not in ("epochs", "best_epoch")}
    n, of = len(calibration["scores"]), "local normal" if "recalibration" in metadata else "held-out normal"

    def plain(values: dict[str, Any]) -> dict[str, str]:
        return {name.replace("_", " "): str(value) for name, value in values.items()}

    return {
        "model": metadata["sha256"][:12],
        "region": str(settings["region"]),
        "looks for": str(settings["looks_for"]),
        "terms": ", ".join(calibration["term_scales"]),
        "normals": f"{kept + held_out:,}, {held_out:,} of them held out",
        **_recalibrated(metadata),
        "threshold": f"{calibration['threshold']:.4f}: {calibration['rule']}",
        "smallest p-value": f"{1 / (n + 1):.2g}, all that {count(n, of)} allow",
        **_weighed(metadata),
        "encoder": f"{metadata['encoder']['name']}, stages {', '.join(map(str, settings['stages']))}",
        "image size": str(settings["image_size"]),
        **plain(training),
        "versions": ", ".join(f"{name} {number}" for name, number in metadata["versions"].items()),
        **plain(timings),
    }


def _check(run: Path | None, as_json: bool) -> None:
    """Print what works, line by line, and how long it took."""
    from aeflow.deploy.self_check import self_check

    started, works = time.perf_counter(), {"version": __version__}
    for name, found in self_check(run):
        works[name] = found
        if not as_json:
            print(f"{name:20} {found}")
    seconds = time.perf_counter() - started
    if as_json:
        print_json({**works, "seconds": round(seconds, 2)})
    else:
        print(f"aeflow {__version__} works; checked in {seconds:.1f} s")


def _weighed(metadata: dict[str, Any]) -> dict[str, str]:
    """Return the line on the weight of the log-determinant, if the training chose one."""
    ranked = metadata.get("log_det_weights")
    if not ranked:
        return {}
    chosen = f"{metadata['settings']['log_det_weight']:g} of it counts in the term flow"
    return {"log-determinant": f"{chosen} (finds synthetic anomalies best: AUROC {max(ranked.values()):.3f})"}


def _recalibrated(metadata: dict[str, Any]) -> dict[str, str]:
    """Return the lines on a recalibration; none if there was none."""
    if "recalibration" not in metadata:
        return {}
    found, before = metadata["recalibration"], metadata["recalibration"]["original"]
    return {
        "recalibrated on": f"{count(found['images'], 'local normal image')} of {count(found['patients'], 'patient')}",
        "threshold before": f"{before['threshold']:.4f}: {before['rule']}, in the units of its own calibration",
    }
