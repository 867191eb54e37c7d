"""The training loop: cached features in, the weights of the best epoch left in the model."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aeflow._types import Floats
from aeflow.calibration.calibration import fit_calibration
from aeflow.config import Settings
from aeflow.data.splits import evenly
from aeflow.features.arithmetic import Arithmetic
from aeflow.features.cached_features import Features
from aeflow.features.device_batches import Feed
from aeflow.model.aeflow import AEFlow
from aeflow.runtime import ranks
from aeflow.runtime.device import Plan, halving
from aeflow.runtime.progress import bar
from aeflow.training.checkpoint import Progress, State, load_checkpoint, save_checkpoint
from aeflow.training.lanes import gradients, lanes
from aeflow.training.numerics import check_finite, check_gradients
from aeflow.training.schedule import one_cycle

NORMS_FROM_IMAGES = 1024  # images from which the norms of the flows start, at most
# Pause before the next checkpoint, as a multiple of the time to write one: half a gigabyte for the preset paper.
CHECKPOINT_PAUSE = 10

PARTS = ("loss", "flow", "reconstruction")


@dataclass(frozen=True, slots=True)
class Material:
    """Images that a model learns from, and those on which it is watched."""

    views: list[Features]  # of the train normals: as they are, then augmented
    held_out: Features  # normals that decide when to stop
    watched: Features  # abnormal images whose scores are drawn epoch by epoch; they decide nothing

    def fingerprint(self) -> str:
        """Return the SHA-256 over the content of the normal images, and the side that each is on."""
        return hashlib.sha256(json.dumps([self.views[0].contents, self.held_out.contents]).encode()).hexdigest()

    def shuffled(self, seed: int, epoch: int) -> list[int]:
        """Return the train normals of an epoch in random order, as rows of all views one after the other.

        Each image comes in its own view half of the time, else in another.
        """
        draw = hashlib.sha256(f"{seed}/{epoch}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(draw[:7], "big"))
        n = len(self.views[0])
        order = torch.randperm(n, generator=generator)
        view = torch.zeros(n, dtype=torch.long)
        if len(self.views) > 1:
            other = torch.randint(1, len(self.views), (n,), generator=generator)
            view = torch.where(torch.rand(n, generator=generator) < 0.5, other, 0)
        rows: list[int] = (view[order] * n + order).tolist()
        return rows


def task_of(
    net: AEFlow, settings: Settings, material: Material, arithmetic: Arithmetic | None = None
) -> dict[str, Any]:
    """Return what a training depends on; only one with the same may continue it, see ``checkpoint``."""
    return {
        "processes": ranks.size(),
        "settings": settings.model_dump(mode="json"),
        "images": material.fingerprint(),
        "encoder weights": net.encoder.fingerprint(),
        "arithmetic": (arithmetic or Arithmetic.of(net.encoder.mean.device)).to_json(),
    }


def fit_network(
    net: AEFlow,
    settings: Settings,
    run: Path,
    material: Material,
    resume: bool,
    plan: Plan | None = None,
    after_epoch: Callable[[int, int], None] = lambda epoch, epochs: None,
    arithmetic: Arithmetic | None = None,
) -> Progress:
    """Train ``net`` until its held-out loss stops falling; checkpoints go into ``run``.

    A checkpoint follows each epoch, or fewer of them if writing would take more than a tenth of the time. Several
    processes (``runtime.ranks``) divide each batch and the held-out normals; rank 0 starts the norms and decides.
    ``plan`` replaces that of the device. ``after_epoch`` may look at the model, or end the training by raising. Raises
    NumericalError naming the layer if training leaves the finite numbers, SettingsError if the GPU's memory does not
    hold one image.
    """
    device = next(net.parameters()).device
    plan = plan or Plan.of(device)
    optimizer = torch.optim.Adam(
        [*net.flows.parameters(), *([] if net.decoder.reads_features else net.decoder.parameters())],
        settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=device.type == "cuda",
    )
    train, held_out, watched = (
        Feed(features, device, plan.hold)
        for features in (material.views[0].and_also(material.views[1:]), material.held_out, material.watched)
    )
    task = task_of(net, settings, material, arithmetic)
    if resume:
        saved = ranks.from_first(lambda: load_checkpoint(run, task, device))
        progress, best = saved.progress, saved.best
        net.load_state_dict(saved.weights, strict=False)  # of a training of the same task, see ``trainable``
        optimizer.load_state_dict({"state": saved.moments, "param_groups": optimizer.state_dict()["param_groups"]})
    else:
        if ranks.first():
            rows = range(len(material.views[0]))
            halving(lambda size: net.initialise(net.encoded(*train.batch(evenly(rows, size)))), NORMS_FROM_IMAGES)
        copy_from_first(net)
        progress, best = Progress(), trainable(net)

    step = _Step(net, settings, optimizer, plan)
    steps = math.ceil(len(material.views[0]) / settings.batch_size)
    epochs = settings.epochs or math.ceil(settings.updates / steps)
    save_from = 0.0
    with bar("Training", epochs) as advance:
        advance(progress.epoch)
        while progress.epoch < epochs and progress.epochs_without_gain < settings.patience:
            tic, epoch = time.perf_counter(), progress.epoch + 1
            order = material.shuffled(settings.seed, epoch)
            train_losses = _train_epoch(step, train, order, epoch, epochs)
            trained = time.perf_counter() - tic
            copy_from_first(net)  # processors of several kinds may differ in the last bits of a step
            with net.in_bfloat16(plan.train_bfloat16):
                held_losses, of_held = measure_all(net, held_out, step.size)
                _, of_watched = measure_all(net, watched, step.size)
            progress.epoch = epoch
            if held_losses[0] < progress.best_loss:
                progress.best_loss, progress.best_epoch, best = float(held_losses[0]), epoch, trainable(net)
            now = fit_calibration(settings, of_held, maps={})
            scores = [now.value(now.terms(measures)).tolist() if measures else [] for measures in (of_held, of_watched)]
            progress.epoch_scores.append(dict(zip(("normal", "abnormal"), scores, strict=True)))
            row = {"epoch": epoch, "learning_rate": optimizer.param_groups[0]["lr"]}
            for side, losses in (("train", train_losses), ("held_out", held_losses)):
                row |= {f"{side}_{part}": float(loss) for part, loss in zip(PARTS, losses, strict=True)}
            progress.history.append({**row, "seconds": round(time.perf_counter() - tic, 3)})
            if ranks.first() and time.perf_counter() >= save_from:
                tic = time.perf_counter()
                save_checkpoint(run, task, progress, trainable(net), best, optimizer)
                save_from = time.perf_counter() + CHECKPOINT_PAUSE * (time.perf_counter() - tic)
            found = f"held-out loss {held_losses[0]:.4f}, best in epoch {progress.best_epoch}"
            advance(note=f"{found}; {len(order) / trained:.0f} images/s")
            after_epoch(epoch, epochs)
    net.load_state_dict(best, strict=False)
    net.eval()
    return progress


class _Step:
    """One step of the optimizer, in parts if the device's memory does not hold a batch.

    The gradient is that of the whole batch either way (but for BatchNorm of the ``resnet`` sub-networks, which sees the
    parts), also if several processes have a share of it each, in ``lanes``.
    """

    def __init__(self, net: AEFlow, settings: Settings, optimizer: torch.optim.Optimizer, plan: Plan) -> None:
        self.net, self.settings, self.optimizer, self.plan = net, settings, optimizer, plan
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.size = settings.batch_size
        self.losses = torch.compile(self._losses, backend=plan.compiler) if plan.compiler else self._losses

    def __call__(self, features: list[Tensor], x: Tensor, images: int, where: str) -> Tensor:
        """Make a step on this process's share (B) of a batch of so many images.

        Return the share's losses (3, B) before the step, or raise NumericalError.
        """
        net = self.net
        with net.in_bfloat16(self.plan.train_bfloat16):
            losses, self.size = halving(lambda size: self._gradients(features, x, images, size), self.size)
        ranks.add_up_gradients(self.parameters)
        # Apart: the flows' far larger gradients would silence the decoder.
        parts = (net.flows,) if net.decoder.reads_features else (net.flows, net.decoder)
        norms = [nn.utils.clip_grad_norm_(part.parameters(), self.settings.max_grad_norm) for part in parts]
        if not bool(torch.isfinite(torch.cat([losses.flatten(), *map(torch.atleast_1d, norms)])).all()):  # one wait
            check_finite(net, losses[0], lambda: self._x_hat(features, x), where)
            ranks.wait()  # if the losses of another share are at fault, its process says so
            for norm in norms:
                check_gradients(net, norm, where)
        self.optimizer.step()
        return losses

    def _gradients(self, features: list[Tensor], x: Tensor, images: int, size: int) -> Tensor:
        """Set a share's part of the gradients of the mean loss of so many images, lane by lane in parts of ``size``.

        Return the losses (3, B) of the share, which may be empty.
        """

        def backward(lane: slice) -> Tensor:
            found = [x.new_zeros(3, 0)]
            for start in range(lane.start, lane.stop, size):
                rows = slice(start, min(start + size, lane.stop))
                losses = self.losses([z[rows] for z in features], x[rows])
                (losses[0].sum() / images).backward()  # type: ignore[no-untyped-call]
                found.append(losses.detach())
            return torch.cat(found, dim=1)

        return torch.cat(gradients(self.parameters, lanes(images, x.device), backward), dim=1)

    def _losses(self, features: list[Tensor], x: Tensor) -> Tensor:
        encoded = self.net.encoded(features, x)
        latent = self.net.encode(encoded)
        losses = self.net.losses(latent, self.net.needed_x_hat(encoded, latent), x)
        return torch.stack((losses.total, losses.flow, losses.reconstruction))

    def _x_hat(self, features: list[Tensor], x: Tensor) -> Tensor:
        encoded = self.net.encoded(features, x)
        return self.net.decode(self.net.code(encoded, self.net.encode(encoded)))


def _train_epoch(step: _Step, feed: Feed, order: list[int], epoch: int, epochs: int) -> Floats:
    """Pass once over the train normals; return the mean losses (3,)."""
    settings, starts = step.settings, range(0, len(order), step.settings.batch_size)
    step.net.train()
    losses = []
    for i, start in enumerate(starts):
        for group in step.optimizer.param_groups:
            group["lr"] = learning_rate(settings, (epoch - 1) * len(starts) + i, epochs * len(starts))
        rows = order[start : start + settings.batch_size]
        losses.append(step(*feed.batch(ranks.share(rows)), len(rows), f"epoch {epoch}, step {i + 1}"))
    total = torch.cat(losses, dim=1).double().sum(dim=1)
    ranks.add_up([total])
    mean: Floats = (total / len(order)).cpu().numpy()
    return mean


def learning_rate(settings: Settings, step: int, steps: int) -> float:
    """Return the constant rate, or that of ``one_cycle``."""
    return settings.learning_rate * (1.0 if settings.schedule == "constant" else one_cycle(step, steps))


@torch.no_grad()
def measure_all(net: AEFlow, feed: Feed, batch_size: int) -> tuple[Floats, dict[str, Floats]]:
    """Return the mean losses (3,), and the raw measures (n, ...) of each term, in evaluation mode.

    Several processes measure whole batches each, and all get what rank 0 makes of them.
    """
    net.eval()
    losses = [torch.zeros(3, 0)]
    measured: dict[str, list[Tensor]] = {name: [] for name in net.terms}
    for z, x in feed.batches(batch_size, ranks.share(range(len(feed)), net.settings.batch_size)):
        encoded = net.encoded(z, x)
        latent = net.encode(encoded)
        x_hat = net.needed_x_hat(encoded, latent)
        loss, measures = net.losses(latent, x_hat, x), net.measure(encoded, latent, x_hat, maps=False)
        losses.append(torch.stack((loss.total, loss.flow, loss.reconstruction)).cpu())
        for name, measure in measures.terms.items():
            measured[name].append(measure.cpu())
    shares = ranks.gathered((losses, measured))

    def together() -> tuple[Floats, dict[str, Floats]]:
        sums = torch.cat([part for losses, _ in shares for part in losses], dim=1).double().sum(dim=1).numpy()
        parts = {name: [part for _, measured in shares for part in measured[name]] for name in measured}
        found = {name: torch.cat(several).double().numpy() for name, several in parts.items() if several}
        return sums / max(1, len(feed)), found

    return ranks.from_first(together)


def trainable(net: AEFlow) -> State:
    """Return a copy of everything but the frozen encoder and the region."""
    return {key: value.clone() for key, value in _trainable(net).items()}


def copy_from_first(net: AEFlow) -> None:
    """Give everything but the frozen encoder and the region the values of rank 0."""
    ranks.copy_from_first(list(_trainable(net).values()))


def _trainable(net: AEFlow) -> State:
    frozen = ("encoder.", "region.")
    return {key: value.detach() for key, value in net.state_dict().items() if not key.startswith(frozen)}
