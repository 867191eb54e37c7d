"""The decoder learns to paint images from their frozen features, apart from the flow."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from aeflow.data.splits import evenly
from aeflow.errors import NumericalError
from aeflow.features.cached_features import Features
from aeflow.features.device_batches import Feed
from aeflow.model.aeflow import AEFlow
from aeflow.model.decoders.upsampling import UpsamplingDecoder
from aeflow.model.ssim import ssim
from aeflow.runtime import ranks
from aeflow.runtime.progress import bar
from aeflow.training.lanes import gradients, lanes
from aeflow.training.schedule import one_cycle

EPOCHS, MOST_UPDATES = 12, 200  # whichever is fewer: half a minute on two cores; 100 more steps gain 0.004 of SSIM
BATCH = 8
LEARNING_RATE = 4e-3  # at the top of the cycle
MAX_GRAD_NORM = 1.0
START_FROM_IMAGES = 256  # images that the mean image and the features' spread are measured on, at most


def reconstruction_loss(x_hat: Tensor, x: Tensor) -> Tensor:
    """Return ``mean |x_hat - x| + 1 - SSIM`` of images (B, 3, H, W), (B,).

    The absolute difference fixes brightness, SSIM the edges: a squared error would be content with a blur.
    """
    return (x_hat - x).abs().mean(dim=(1, 2, 3)) + 1 - ssim(x_hat, x)


def fit_decoder(decoder: UpsamplingDecoder, feed: Feed, seed: int) -> float:
    """Train ``decoder`` on all images of ``feed``, whose batches hold the stages it reads; return the last loss.

    Adam with one cycle of the learning rate. The same seed gives the same weights on one kind of machine. Several
    processes (``runtime.ranks``) have lanes of each batch (``lanes``). Raises NumericalError if the loss leaves the
    finite numbers.
    """
    if ranks.first():
        decoder.initialise(*feed.batch(evenly(range(len(feed)), START_FROM_IMAGES)))
    ranks.copy_from_first(list(decoder.state_dict().values()))
    optimizer = torch.optim.Adam(decoder.parameters(), LEARNING_RATE)
    generator = torch.Generator().manual_seed(seed)
    steps = min(MOST_UPDATES, EPOCHS * math.ceil(len(feed) / BATCH))
    order: list[int] = []
    mean_loss = math.nan
    decoder.train()
    with bar("Decoder", steps) as advance:
        for step in range(steps):
            if len(order) < min(BATCH, len(feed)):
                order = torch.randperm(len(feed), generator=generator).tolist()
            rows, order = order[:BATCH], order[BATCH:]
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * one_cycle(step, steps)
            loss = _gradients(decoder, feed, rows)
            ranks.add_up_gradients(list(decoder.parameters()))
            ranks.add_up([loss])
            nn.utils.clip_grad_norm_(decoder.parameters(), MAX_GRAD_NORM)
            found = float(loss)
            if not math.isfinite(found):
                where = f"decoder, step {step + 1}"
                raise NumericalError(where, f"its loss is {found}", "look for images or features that are not finite")
            optimizer.step()
            mean_loss = found if step == 0 else 0.95 * mean_loss + 0.05 * found
            advance(note=f"loss {mean_loss:.3f}")
    decoder.eval()
    return mean_loss


def _gradients(decoder: UpsamplingDecoder, feed: Feed, rows: list[int]) -> Tensor:
    """Set the gradients of the mean loss of ``rows`` from this process's share of them; return its part of the loss."""
    features, x = feed.batch(ranks.share(rows))

    def backward(lane: slice) -> Tensor:
        part = x[lane]
        if not len(part):
            return x.new_zeros(())
        loss = reconstruction_loss(decoder([z[lane] for z in features]), part).mean() * (len(part) / len(rows))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    return ranks.added_by_pairs(gradients(list(decoder.parameters()), lanes(len(rows), x.device), backward))


def paint(net: AEFlow, normals: Features, seed: int) -> None:
    """Train a decoder that reads features; another is trained with the flow."""
    if isinstance(net.decoder, UpsamplingDecoder):
        at = [net.front.stages.index(stage) for stage in net.settings.decoder_stages]
        fit_decoder(net.decoder, Feed(normals.only(*at), next(net.parameters()).device), seed)
