"""The training loop: cached features in, the weights of the best epoch left in the model."""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from aeflow import calibrate, checkpoint
from aeflow.checkpoint import Progress, State
from aeflow.config import Settings
from aeflow.data.split import evenly
from aeflow.features import Features
from aeflow.guard import check_finite, check_gradients
from aeflow.model.aeflow import AEFlow
from aeflow.progress import bar

START = 1024  # images, at most, that the norms of the flows start from

PARTS = ("loss", "flow", "reconstruction")
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Material:
    """What a model learns from, and what it is watched on."""

    views: list[Features]  # of the train normals: as they are, then augmented
    held_out: Features  # normals that decide when to stop
    watched: Features  # abnormal images whose scores are drawn epoch by epoch; they decide nothing

    def fingerprint(self) -> str:
        """SHA-256 over the content of the normal images, and the side each is on."""
        return hashlib.sha256(json.dumps([self.views[0].contents, self.held_out.contents]).encode()).hexdigest()

    def shuffled(self, seed: int, epoch: int) -> Features:
        """The train normals of an epoch in random order; of each its own view half of the time, else another."""
        draw = hashlib.sha256(f"{seed}/{epoch}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(draw[:7], "big"))
        order = torch.randperm(len(self.views[0]), generator=generator).tolist()
        rows = self.views[0].rows
        if len(self.views) > 1:
            other = torch.randint(1, len(self.views), (len(rows),), generator=generator)
            view = torch.where(torch.rand(len(rows), generator=generator) < 0.5, other, 0).tolist()
            rows = [self.views[v].rows[i] for i, v in enumerate(view)]
        return replace(self.views[0], rows=[rows[i] for i in order])


def fit(net: AEFlow, settings: Settings, run: Path, material: Material, resume: bool) -> Progress:
    """Train ``net`` until its held-out loss stops falling; a checkpoint in ``run`` follows each epoch.

    Raises NumericalError naming the layer where training leaves the finite numbers.
    """
    device = next(net.parameters()).device
    optimizer = torch.optim.Adam(
        [*net.flows.parameters(), *net.decoder.parameters()], settings.learning_rate, weight_decay=settings.weight_decay
    )
    task = {
        "settings": settings.model_dump(mode="json"),
        "images": material.fingerprint(),
        "encoder weights": net.encoder.fingerprint(),
    }
    if resume:
        progress, weights, best = checkpoint.load(run, task, optimizer, device)
        net.load_state_dict(weights, strict=False)
    else:
        features, _ = material.views[0].batch(evenly(range(len(material.views[0])), START))
        net.initialise([z.to(device) for z in features])
        progress, best = Progress(), trainable(net)

    steps = math.ceil(len(material.views[0]) / settings.batch_size)
    epochs = settings.epochs or math.ceil(settings.updates / steps)
    with bar("Training", epochs) as advance:
        advance(progress.epoch)
        while progress.epoch < epochs and progress.epochs_without_gain < settings.patience:
            tic, epoch = time.perf_counter(), progress.epoch + 1
            train_losses = _train_epoch(
                net, settings, optimizer, material.shuffled(settings.seed, epoch), epoch, epochs
            )
            held_losses, *held = measure_all(net, material.held_out, settings.batch_size)
            _, *watched = measure_all(net, material.watched, settings.batch_size)
            progress.epoch = epoch
            if held_losses[0] < progress.best_loss:
                progress.best_loss, progress.best_epoch, best = float(held_losses[0]), epoch, trainable(net)
            now = calibrate.fit(settings, held[0], held[1], maps={})
            scores = [now.value(now.terms(flow, reconstruction)).tolist() for flow, reconstruction in (held, watched)]
            progress.epoch_scores.append(dict(zip(("normal", "abnormal"), scores, strict=True)))
            row = {"epoch": epoch, "learning_rate": optimizer.param_groups[0]["lr"]}
            for side, losses in (("train", train_losses), ("held_out", held_losses)):
                row |= {f"{side}_{part}": float(loss) for part, loss in zip(PARTS, losses, strict=True)}
            progress.history.append({**row, "seconds": round(time.perf_counter() - tic, 3)})
            checkpoint.save(run, task, progress, trainable(net), best, optimizer)
            advance(note=f"held-out loss {held_losses[0]:.4f}, best in epoch {progress.best_epoch}")
    net.load_state_dict(best, strict=False)
    net.eval()
    return progress


def _train_epoch(
    net: AEFlow, settings: Settings, optimizer: torch.optim.Optimizer, normals: Features, epoch: int, epochs: int
) -> Floats:
    """One pass over the train normals; returns the mean losses (3,)."""
    device = next(net.parameters()).device
    starts = range(0, len(normals), settings.batch_size)
    sums = np.zeros(3)
    net.train()
    for step, start in enumerate(starts):
        features, x = normals.batch(range(start, min(start + settings.batch_size, len(normals))))
        features, x = [z.to(device) for z in features], x.to(device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings, (epoch - 1) * len(starts) + step, epochs * len(starts))
        latent = net.encode(features)
        losses = net.losses(latent, net.decode(latent), x)
        where = f"epoch {epoch}, step {step + 1}"
        check_finite(net, losses.total, lambda f=features: net.decode(net.encode(f)), where)  # type: ignore[misc]
        optimizer.zero_grad()
        losses.total.mean().backward()  # type: ignore[no-untyped-call]
        for part in (net.flows, net.decoder):  # apart: the flows' far larger gradients would silence the decoder
            check_gradients(net, nn.utils.clip_grad_norm_(part.parameters(), settings.max_grad_norm), where)
        optimizer.step()
        sums += _parts(losses.total, losses.flow, losses.reconstruction).sum(axis=1)
    return sums / len(normals)


def learning_rate(settings: Settings, step: int, steps: int) -> float:
    """Constant, or one cycle: a linear rise over the first fifth of all ``steps``, then half a cosine towards 0."""
    if settings.schedule == "constant":
        return settings.learning_rate
    rise = steps / 5
    share = (step + 1) / rise if step < rise else 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))
    return settings.learning_rate * max(min(share, 1.0), 1e-3)


@torch.no_grad()
def measure_all(net: AEFlow, features: Features, batch_size: int) -> tuple[Floats, Floats, Floats]:
    """Mean losses (3,), flow measures (n, stages) and reconstruction measures (n,) in evaluation mode."""
    net.eval()
    device = next(net.parameters()).device
    losses, flow, reconstruction = [np.zeros((3, 0))], [torch.zeros(0, len(net.flows))], [torch.zeros(0)]
    for z, x in features.batches(batch_size):
        latent, x = net.encode([stage.to(device) for stage in z]), x.to(device)
        x_hat = net.decode(latent)
        loss, measures = net.losses(latent, x_hat, x), net.measure(latent, x_hat, x)
        losses.append(_parts(loss.total, loss.flow, loss.reconstruction))
        flow.append(measures.flow.cpu())
        reconstruction.append(measures.reconstruction.cpu())
    sums = np.concatenate(losses, axis=1).sum(axis=1)
    return sums / max(1, len(features)), torch.cat(flow).double().numpy(), torch.cat(reconstruction).double().numpy()


def trainable(net: AEFlow) -> State:
    """A copy of everything but the frozen encoder."""
    return {key: value.detach().clone() for key, value in net.state_dict().items() if not key.startswith("encoder.")}


def _parts(*losses: torch.Tensor) -> Floats:
    """Losses of each image, (len(losses), B)."""
    array: Floats = torch.stack(losses).detach().double().cpu().numpy()
    return array
