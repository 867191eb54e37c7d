"""Normal images -> a trained, calibrated model. One readable loop."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from aeflow import artifact as artifacts
from aeflow import calibrate, checkpoint
from aeflow.artifact import Artifact
from aeflow.calibrate import Calibration, MapScale
from aeflow.checkpoint import Progress, State
from aeflow.config import Settings
from aeflow.data.records import Record, of_label, read_records
from aeflow.data.split import hold_out
from aeflow.errors import ArtifactError, DataError, ImageError
from aeflow.features import FeatureCache, Features
from aeflow.guard import check_finite, check_gradients
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder import pretrained
from aeflow.progress import bar
from aeflow.runtime import pick_device, prepare
from aeflow.score import measure

START = 256  # images from which ActNorm starts
WATCHED = 100  # train abnormal images whose scores are drawn epoch by epoch; nothing is decided on them
MAPPED = 400  # held-out images from which the maps' scale is taken
HISTORY, EPOCH_SCORES = "history.csv", "epoch_scores.json"

T = TypeVar("T")
Refusals = list[tuple[Record, ImageError]]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training gives beside the files in its run folder."""

    artifact: Artifact
    history: list[dict[str, float]]
    refusals: Refusals


def train(
    data: Path | str,
    out: Path | str,
    settings: Settings,
    *,
    encoder_weights: Path | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
) -> Trained:
    """Learn from the train normals of ``data`` and write the run folder ``out``.

    Raises DataError for too few normals, ArtifactError where ``out`` already holds a model or another training,
    NumericalError naming the layer where training leaves the finite numbers.
    """
    started = time.perf_counter()
    prepare()
    run, on = Path(out), pick_device(device)
    _check_run(run, resume, overwrite)
    records = read_records(data, "train")
    normals = of_label(records, 0, at_least=2, where=Path(data) / "train")
    kept, held = hold_out(normals, settings.held_out, settings.seed)
    watched = _evenly(of_label(records, 1), WATCHED)

    encoder = pretrained(settings.encoder, settings.stages, encoder_weights)
    torch.manual_seed(settings.seed)
    net = AEFlow(settings, encoder)
    cache = FeatureCache(encoder, settings.image_size)
    with bar("Features", len(kept) + len(held) + len(watched)) as advance:
        (kept_f, refused), (held_f, refused_held), (watched_f, refused_watched) = (
            cache.features(part, advance) for part in (kept, held, watched)
        )
    refusals = refused + refused_held + refused_watched
    if len(kept_f) < 2 or len(held_f) < calibrate.MIN_NORMALS:
        found = f"{len(kept_f)} readable images to train on and {len(held_f)} to hold out"
        reason = f" (first refusal: {refusals[0][1]})" if refusals else ""
        needed = math.ceil(calibrate.MIN_NORMALS / settings.held_out)
        raise DataError(Path(data) / "train" / "normal", found + reason, f"give at least {needed} normal images")

    run.mkdir(parents=True, exist_ok=True)
    net.to(on)
    history, epoch_scores = _fit(net, settings, run, kept_f, held_f, watched_f, resume)
    calibration = calibrate_on(net, held_f.records)
    facts = {
        "training": {
            "normal_images": len(kept_f),
            "held_out_images": len(held_f),
            "patients": len({record.patient for record in kept_f.records}),
            "held_out_patients": len({record.patient for record in held_f.records}),
            "refused_images": len(refusals),
            "fingerprint": _fingerprint(kept_f, held_f),
            "epochs": len(history),
            "best_epoch": next(int(row["epoch"]) for row in history if row["best"]),
            "seconds": round(time.perf_counter() - started, 1),
            "device": str(on),
        }
    }
    model = Artifact(net.eval(), settings, calibration, facts)
    artifacts.write_text(run / HISTORY, _csv(history))
    artifacts.write_text(run / EPOCH_SCORES, json.dumps(epoch_scores))
    artifacts.save(model, run)
    (run / checkpoint.NAME).unlink()
    return Trained(model, history, refusals)


def calibrate_on(net: AEFlow, held_out: Sequence[Record]) -> Calibration:
    """Calibrate a model on normal images it was not trained on, read and scored as any other."""
    rows, mapped = [], {record.path for record in _evenly(held_out, MAPPED)}
    pixels: dict[str, list[np.ndarray[Any, Any]]] = {}
    with bar("Calibrating", len(held_out)) as advance:
        for record, measured in measure(net, held_out, maps=True):
            advance()
            if isinstance(measured, ImageError):  # it could be read a minute ago
                raise measured
            rows.append((measured.flow, measured.reconstruction))
            if record.path in mapped:
                for name, m in measured.maps.items():
                    pixels.setdefault(name, []).append(m.ravel())
    scales = {}
    for name, values in pixels.items():
        low, threshold, high = np.quantile(np.concatenate(values), (0.5, 0.99, 0.999))
        scales[name] = MapScale(float(low), float(high), float(threshold))
    flow, reconstruction = np.stack([row[0] for row in rows]), np.array([row[1] for row in rows])
    return calibrate.fit(net.settings, flow, reconstruction, scales)


def _fit(
    net: AEFlow, settings: Settings, run: Path, kept: Features, held: Features, watched: Features, resume: bool
) -> tuple[list[dict[str, float]], list[dict[str, list[float]]]]:
    """The training loop; leaves the weights of the best epoch in ``net``."""
    device = next(net.parameters()).device
    parameters = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    task = {
        "settings": settings.model_dump(mode="json"),
        "images": _fingerprint(kept, held),
        "encoder weights": net.encoder.fingerprint(),
    }
    if resume:
        progress, weights, best = checkpoint.load(run, task, optimizer, device)
        net.load_state_dict(weights, strict=False)
    else:
        features, _ = kept.batch(_evenly(range(len(kept)), START))
        net.initialise([z.to(device) for z in features])
        progress, best = Progress(), _trainable(net)

    steps = math.ceil(len(kept) / settings.batch_size)
    with bar("Training", settings.epochs) as advance:
        advance(progress.epoch)
        while progress.epoch < settings.epochs and progress.epochs_without_gain < settings.patience:
            epoch, tic = progress.epoch + 1, time.perf_counter()
            order = torch.randperm(len(kept), generator=_generator(settings.seed, epoch)).tolist()
            sums = np.zeros(3)
            net.train()
            for step in range(steps):
                chosen = order[step * settings.batch_size : (step + 1) * settings.batch_size]
                features, x = kept.batch(chosen)
                features, x = [z.to(device) for z in features], x.to(device)
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(settings, (epoch - 1) * steps + step, settings.epochs * steps)
                latent = net.encode(features)
                losses = net.losses(latent, net.decode(latent), x)
                where = f"epoch {epoch}, step {step + 1}"
                check_finite(net, losses.total, lambda f=features: net.decode(net.encode(f)), where)  # type: ignore[misc]
                optimizer.zero_grad()
                losses.total.mean().backward()  # type: ignore[no-untyped-call]
                check_gradients(net, nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm), where)
                optimizer.step()
                parts = torch.stack([losses.total, losses.flow, losses.reconstruction]).detach()
                sums += parts.double().sum(dim=1).cpu().numpy()

            held_losses, held_flow, held_reconstruction = _measure(net, held, settings.batch_size)
            _, watched_flow, watched_reconstruction = _measure(net, watched, settings.batch_size)
            now = calibrate.fit(settings, held_flow, held_reconstruction, {})
            progress.epoch_scores.append(
                {
                    "normal": now.value(now.terms(held_flow, held_reconstruction)).tolist(),
                    "abnormal": now.value(now.terms(watched_flow, watched_reconstruction)).tolist(),
                }
            )
            progress.epoch = epoch
            if held_losses[0] < progress.best_loss:
                progress.best_loss, progress.best_epoch, best = float(held_losses[0]), epoch, _trainable(net)
            row = {"epoch": epoch, "learning_rate": optimizer.param_groups[0]["lr"]}
            for name, values in (("train", sums / len(kept)), ("held_out", held_losses)):
                row |= zip(
                    [f"{name}_{part}" for part in ("loss", "flow", "reconstruction")], values.tolist(), strict=True
                )
            progress.history.append({**row, "seconds": round(time.perf_counter() - tic, 3)})
            checkpoint.save(run, task, progress, _trainable(net), best, optimizer)
            advance(note=f"held-out loss {held_losses[0]:.4f}, best in epoch {progress.best_epoch}")
    net.load_state_dict(best, strict=False)
    history = [{**row, "best": int(row["epoch"] == progress.best_epoch)} for row in progress.history]
    return history, progress.epoch_scores


def learning_rate(settings: Settings, step: int, steps: int) -> float:
    """Constant, or one cycle: a linear rise over the first fifth of all ``steps``, then half a cosine towards 0."""
    if settings.schedule == "constant":
        return settings.learning_rate
    rise = steps / 5
    share = (step + 1) / rise if step < rise else 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))
    return settings.learning_rate * max(min(share, 1.0), 1e-3)


@torch.no_grad()
def _measure(
    net: AEFlow, features: Features, batch_size: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Mean losses (3,), flow measures (n, stages) and reconstruction measures (n,) in evaluation mode."""
    net.eval()
    device = next(net.parameters()).device
    losses, flow, reconstruction = [], [torch.zeros(0, len(net.flows))], [torch.zeros(0)]
    for z, x in features.batches(batch_size):
        latent = net.encode([stage.to(device) for stage in z])
        x = x.to(device)
        x_hat = net.decode(latent)
        part = net.losses(latent, x_hat, x)
        losses.append(torch.stack([part.total, part.flow, part.reconstruction]).cpu())
        measures = net.measure(latent, x_hat, x)
        flow.append(measures.flow.cpu())
        reconstruction.append(measures.reconstruction.cpu())
    mean = torch.cat(losses, dim=1).double().mean(dim=1).numpy() if losses else np.zeros(3)
    return mean, torch.cat(flow).double().numpy(), torch.cat(reconstruction).double().numpy()


def _trainable(net: AEFlow) -> State:
    """A copy of everything but the frozen encoder."""
    return {key: value.detach().clone() for key, value in net.state_dict().items() if not key.startswith("encoder.")}


def _generator(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(f"{seed}/{epoch}".encode()).digest()[:7], "big"))


def _evenly(items: Sequence[T], n: int) -> list[T]:
    """At most ``n`` of the items, evenly spaced."""
    return [items[i * len(items) // n] for i in range(n)] if len(items) > n else list(items)


def _fingerprint(kept: Features, held: Features) -> str:
    """SHA-256 over the content of all images, and the side each is on."""
    return hashlib.sha256(json.dumps([kept.contents, held.contents]).encode()).hexdigest()


def _csv(rows: list[dict[str, float]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _check_run(run: Path, resume: bool, overwrite: bool) -> None:
    if run.exists() and not run.is_dir():
        raise ArtifactError(run, "is a file", "give a folder with --out")
    if overwrite or resume:
        return
    if (run / artifacts.FACTS).exists():
        raise ArtifactError(run, "already holds a model", "choose another --out, or replace it with --overwrite")
    if (run / checkpoint.NAME).exists():
        raise ArtifactError(run, "holds an unfinished training", "go on with --resume, or replace it with --overwrite")
