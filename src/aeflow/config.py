"""Settings of a training: validated before it, saved inside the model, never changed after."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aeflow._types import Axis
from aeflow.errors import SettingsError, in_our_words, nearest

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
REGION_NAMES = ("none", "body", "lungs")  # as model.regions has them
PAINTED = "painted"  # the region is learnt from painted normals
FLOWGMM = "flowgmm"  # the prior that is learnt with labels
UNCHOSEN = 0.5  # ``log_det_weight`` of a model in training until one is chosen; it only matters for the curves
LEFT_OPEN = ("terms", "mirror_axis", "log_det_weight")  # settings that a training chooses if they are None


class Settings(BaseModel):
    """Settings that, with the data, decide the result of a training; the defaults are the preset ``default``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # What the model sees
    encoder: str = "tf_efficientnet_lite0"  # any timm network; the weights of this one and lite2 are embedded
    stages: tuple[int, ...] = (3,)  # indices into the encoder's stages; one flow for each
    image_size: int = Field(224, ge=32, le=2048)  # pixels per side; images are resized to a square
    slice_axis: Axis = "axial"  # volumes are cut across it; for NIfTI only, DICOM's slices stay as they were stored
    unit_features: bool = True  # each position's feature vector is scaled to the same length, which removes contrast
    augmented_views: int = Field(1, ge=0, le=16)  # mildly changed views of each train image; half of what is trained on
    view_reach: float = Field(2.0, ge=0.0, le=4.0)  # how far they are turned, zoomed, shifted; 1: 5 degrees, 6 %, 3 %

    # The flow
    flow_steps: int = Field(8, ge=1, le=64)  # coupling steps of each flow
    subnet: Literal["conv", "resnet"] = "conv"  # of a coupling step: convolutions, or residual blocks
    hidden: int = Field(128, ge=1)  # channels inside a conv sub-network
    coupling: Literal["affine", "additive"] = "affine"  # affine scales and shifts, additive only shifts
    clamp: float = Field(2.0, gt=0.0)  # bound of a step's log-scale
    positions: bool = True  # flow and decoder know what is normal at each position; right for aligned images

    region: str = "body"  # what score and maps are restricted to: none, body, lungs, or painted
    described_stages: tuple[int, ...] = (1, 2, 3)  # encoder's stages that describe a position; the last of stride 16
    prior: str = "normal"  # density of the flow's latent: normal, or flowgmm, which learns from labels

    # The decoder: "upsampling" reads frozen features and is trained apart from the flow; "transposed", AE-FLOW's own,
    # reads the deepest stage's latent, with these widths between the latent and the three colour channels.
    decoder_type: str = "upsampling"  # upsampling, or transposed, AE-FLOW's own
    decoder_stages: tuple[int, ...] = (2, 3)  # encoder's stages that "upsampling" reads
    decoder: tuple[int, ...] = Field((32, 16, 8), max_length=16)  # of "transposed"

    # Loss: alpha * flow + (1 - alpha) * reconstruction
    alpha: Fraction = 0.5  # weight of the flow's loss; the decoder's has the rest
    learning_rate: float = Field(2e-3, gt=0.0)  # the largest of the schedule
    schedule: Literal["constant", "one-cycle"] = "one-cycle"  # of the learning rate, over all epochs
    weight_decay: float = Field(0.0, ge=0.0)  # of Adam
    batch_size: int = Field(32, ge=1)  # images of a training step
    epochs: int | None = Field(None, ge=1)  # None: as many as it takes to make `updates` steps
    updates: int = Field(165, ge=1)  # training steps, from which epochs follow
    patience: int = Field(5, ge=1)  # epochs without a better held-out loss before training stops
    max_grad_norm: float = Field(1.0, gt=0.0)  # of the flows, and of the decoder apart

    # Score: a sum of terms of model.terms
    looks_for: Literal["diffuse", "focal", "unknown"] = "unknown"  # what disease does: the one thing a user knows
    terms: tuple[str, ...] | None = None  # that the score sums; None: planned from looks_for and the train normals
    mirror_axis: Literal["left-right", "up-down"] | None = None  # across which sides are compared; None: planned
    beta: Fraction = 0.9  # where flow and reconstruction are terms, beta * flow + (1 - beta) * reconstruction
    log_det_weight: Fraction | None = (  # share of the log-determinant that counts; None: chosen
        None  # of the log-determinant in the flow term; None: chosen on synthetic anomalies
    )
    top_share: float = Field(0.05, gt=0.0, le=1.0)  # terms of places are means over the highest of them
    reconstruction: Literal["ssim", "mse"] = "ssim"  # measure of that term
    standardise: bool = True  # each term in standard deviations of the held-out normals
    two_sided: bool = True  # standardised reconstruction counts both ways: too smooth is abnormal, too

    # What learns from labelled abnormal and unlabelled images: a classifier on pooled features, or prior "flowgmm"
    classifier: Literal["none", "mixture"] = "none"  # a Gaussian mixture, in which each kind of abnormality has its own
    labels: int | None = Field(None, ge=0)  # labelled abnormal images, drawn by the seed; None: all there are
    undrawn: bool = False  # the abnormal images that were not drawn join the unlabelled ones
    class_stages: tuple[int, ...] = (3, 4)  # encoder's stages whose mean and spread the classifier uses
    directions: int = Field(256, ge=1)  # leading directions of these that the mixture sees
    shrinkage: Fraction = 0.3  # pull of the shared covariance towards a multiple of the identity
    consistency: float = Field(2.0, ge=0.0)  # how often the change by a recapture counts in that covariance
    label_weight: float = Field(5.0, gt=0.0)  # weight of a labelled abnormal image beside a normal one
    abnormal_share: float | None = Field(None, gt=0.0, lt=1.0)  # prior of abnormal; None: the pool's, else a half

    # Honesty
    held_out: float = Field(0.2, gt=0.0, lt=1.0)  # share of the train normals kept for stopping and calibration
    false_positive_rate: float = Field(0.05, gt=0.0, lt=1.0)  # share of normals that the threshold may flag
    allow_leakage: bool = False  # train although normals, or their patients, are in the test split: figures flatter
    seed: int = Field(0, ge=0)  # of split, start, order and all that is drawn

    @model_validator(mode="after")
    def _stages_rise(self) -> Self:
        for name in ("stages", "class_stages", "described_stages", "decoder_stages"):
            stages = getattr(self, name)
            if not stages or list(stages) != sorted(set(stages)):
                raise ValueError(f"{name} must be given in rising order, each once")
        return self

    @property
    def chosen_terms(self) -> tuple[str, ...]:
        """Terms that the score sums; none before they are planned."""
        return self.terms or ()

    @property
    def describes(self) -> bool:
        """If positions are described, within a region; AE-FLOW's own two terms on the whole image need none of it."""
        return self.region != "none" or self.terms is None or not {"flow", "reconstruction"} >= {*self.terms}

    @property
    def mirrors(self) -> bool:
        """If a term compares the two sides, which it does only where normals are mirror images of themselves."""
        return any(name.startswith("mirror") for name in self.chosen_terms)

    @property
    def has_flow(self) -> bool:
        """If the model has a flow: a term reads its likelihood, or its prior was chosen."""
        return "flow" in self.chosen_terms or self.prior != "normal"

    @property
    def model_stages(self) -> tuple[int, ...]:
        """Stages of the encoder that flows, decoder and classifier read, in rising order."""
        of_classes = self.class_stages if self.classifier == "mixture" else ()
        of_decoder = self.decoder_stages if self.decoder_type == "upsampling" else ()
        return tuple(sorted({*self.stages, *of_classes, *of_decoder}))

    @property
    def encoder_stages(self) -> tuple[int, ...]:
        """Stages of the encoder that the model needs, in rising order."""
        return tuple(sorted({*self.model_stages, *(self.described_stages if self.describes else ())}))

    def completed_as(self, other: Settings) -> bool:
        """Return if ``other`` is these settings, or these with a choice for what they leave to the training."""
        left_open = {name: None for name in LEFT_OPEN if getattr(self, name) is None}
        return other.model_copy(update=left_open) == self


# The first release's default: AE-FLOW's two terms on the whole image.
AEFLOW_1: dict[str, Any] = {"region": "none", "terms": ("flow", "reconstruction"), "decoder_type": "transposed"}

# The published configuration for chest X-rays. Figures that are not published, with those chosen here: batch size 32,
# hidden width 512 (23.1 M parameters in the flow), held-out share and patience (all 100 epochs are trained).
PAPER: dict[str, Any] = {
    **AEFLOW_1,
    "encoder": "wide_resnet50_2",
    "stages": (3,),
    "image_size": 256,
    "unit_features": False,
    "augmented_views": 0,
    "positions": False,
    "flow_steps": 8,
    "subnet": "conv",
    "hidden": 512,
    "coupling": "affine",
    "decoder": (512, 256, 64),
    "alpha": 0.5,
    "beta": 0.9,
    "learning_rate": 1e-3,
    "schedule": "constant",
    "weight_decay": 0.0,
    "epochs": 100,
    "patience": 100,
    "log_det_weight": 0.0,
    "top_share": 1.0,
    "reconstruction": "ssim",
    "standardise": False,
    "two_sided": False,
}

# A larger encoder, which takes longer: the one change that the search preferred on both sets (docs/quality.md).
LARGE: dict[str, Any] = {"encoder": "tf_efficientnet_lite2"}

PRESETS: dict[str, dict[str, Any]] = {"default": {}, "large": LARGE, "aeflow-1": AEFLOW_1, "paper": PAPER}


# Settings that belong to a run and its data, and never to a preset.
OF_A_RUN = ("seed", "allow_leakage", "classifier", "labels", "undrawn")

# Values that settings had before, and what to write now.
RENAMED = {("prior", "gmm"): ("classifier", "mixture")}


def make_settings(preset: str | Path = "default", **changes: Any) -> Settings:
    """Return a preset, or that of a file, with some settings changed; SettingsError names setting and legal range.

    ``labels`` and ``undrawn`` imply the classifier that reads them, unless prior ``flowgmm`` does.

        >>> make_settings("paper").encoder
        'wide_resnet50_2'
        >>> make_settings(image_size=100_000)
        Traceback (most recent call last):
        aeflow.errors.SettingsError: image_size: 100000 is not allowed; give at most 2048
    """
    chosen = PRESETS[preset] if isinstance(preset, str) and preset in PRESETS else read_preset(Path(preset))
    unknown = sorted(changes.keys() - Settings.model_fields.keys())
    if unknown:
        raise SettingsError(unknown[0], "no such setting", _meant(unknown[0], Settings.model_fields))
    for (name, value), (new_name, new_value) in RENAMED.items():
        if changes.get(name) == value:
            remedy = f"write {new_name}={new_value}; {name} is the density of the flow's latent"
            raise SettingsError(name, f"{value!r} is now {new_name} {new_value!r}", remedy)
    values = {**chosen, **changes}
    if {"labels", "undrawn"} & changes.keys() and values.get("prior") != FLOWGMM:
        values = {"classifier": "mixture", **values}
    try:
        settings = Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        remedy = in_our_words(first["msg"])
        if not first["loc"]:  # of several together
            raise SettingsError("settings", remedy, "aeflow settings says what each takes") from error
        raise SettingsError(first["loc"][0], f"{first['input']!r} is not allowed", remedy) from error
    if settings.prior == FLOWGMM:
        _check_flowgmm(settings)
    return settings


def _check_flowgmm(settings: Settings) -> None:
    """Raise SettingsError if other settings leave the prior ``flowgmm`` nothing to do."""
    if settings.classifier != "none":
        found = f"prior flowgmm and classifier {settings.classifier} would both learn from the labels"
        raise SettingsError("prior", found, "ask for one of them")
    if settings.terms is not None and "flow" not in settings.terms:
        found = f"{', '.join(settings.terms)}: without flow the score reads no latent, over which prior flowgmm lies"
        raise SettingsError("terms", found, "add flow, or leave the terms to the plan")
    if len(settings.stages) > 1:
        found = f"{', '.join(map(str, settings.stages))}: prior flowgmm lies over the latent of one stage"
        raise SettingsError("stages", found, "give one, for instance --set stages=3")
    [stage] = settings.stages
    if settings.decoder_type == "upsampling" and stage not in settings.decoder_stages:
        found = f"{', '.join(map(str, settings.decoder_stages))}: the flow's stage {stage} is not read"
        raise SettingsError("decoder_stages", found, "add it, so that what prior flowgmm draws can be decoded")


def region_and_folder(region: str | Path) -> tuple[str, Path | None]:
    """Return the setting for what a user gives as the region, and its folder of masks if it is one.

    Raises SettingsError if it is neither a name nor a folder.

        >>> region_and_folder("lungs")
        ('lungs', None)
    """
    if str(region) in (PAINTED, *REGION_NAMES):
        return str(region), None
    if not Path(region).is_dir():
        remedy = f"choose one of {', '.join(REGION_NAMES)}, or name a folder with masks of painted train normals"
        raise SettingsError("region", f"no region and no folder named {str(region)!r}", remedy)
    return PAINTED, Path(region)


def _meant(name: str, known: Iterable[str]) -> str:
    """Return the remedy for a setting that there is not: the one that was meant, or all if none is like it."""
    near = nearest(name, known)
    return f"settings are {', '.join(known)}" if near is None else f"do you mean {near}? aeflow settings lists all"


def preset_text(settings: Settings) -> str:
    """Return the content of a preset file: all settings, so that a later version's defaults change nothing in it."""
    return json.dumps({"preset": settings.model_dump(mode="json", exclude=set(OF_A_RUN))}, indent=1) + "\n"


def read_preset(path: Path) -> dict[str, Any]:
    """Read the settings of a preset file, not yet validated; raises SettingsError."""
    if not path.is_file():
        remedy = f"choose one of {', '.join(PRESETS)}, or give a file that aeflow tune wrote"
        raise SettingsError("preset", f"no preset named {str(path)!r}", remedy)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        found = f"cannot be read as JSON ({type(error).__name__})"
        raise SettingsError(path, found, "give the preset.json that aeflow tune wrote") from error
    chosen = content.get("preset") if isinstance(content, dict) else None
    if not isinstance(chosen, dict):
        raise SettingsError(path, "holds no preset", 'write {"preset": {"NAME": VALUE, ...}}')
    for name in chosen:
        if name not in Settings.model_fields:
            known = [field for field in Settings.model_fields if field not in OF_A_RUN]
            raise SettingsError(path, f"no such setting: {name}", _meant(name, known))
        if name in OF_A_RUN:
            raise SettingsError(path, f"{name} belongs to a run, not to a preset", f"take it out; use --set {name}=...")
    return chosen


def parse_changes(pairs: list[str]) -> dict[str, Any]:
    """Return ``["stages=3,4", "beta=0.5"]`` of a command line as keyword changes, not yet validated."""
    changes: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise SettingsError(f"--set {pair}", "no '=' in it", "write NAME=VALUE, e.g. --set beta=0.5")
        name = name.strip().replace("-", "_")
        several = name in ("stages", "class_stages", "described_stages", "decoder_stages", "decoder", "terms")
        changes[name] = tuple(part.strip() for part in value.split(",") if part.strip()) if several else value.strip()
    return changes
