"""Settings of the objectives."""

from typing import Annotated

from pydantic import Field, model_validator

from fovea.config import AUTO, Auto, Section
from fovea.schedule import Schedule


class CropConfig(Section):
    """A kind of crop: how many windows per side, and how much of the image it covers."""

    grid: int = Field(ge=1, description="windows per side")
    scale: tuple[float, float] = Field(description="least and greatest area share, 0..1")

    @model_validator(mode="after")
    def _within_image(self) -> "CropConfig":
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale: expected 0 < least <= greatest <= 1, found {self.scale}")
        return self


class AugmentConfig(Section):
    """Photometric augmentation of a view: drawn per view, applied to its patches.

    The defaults are DINO's. Blur is what the name says: ``blur_*`` is the share of views blurred.
    """

    flip: float = Field(0.5, ge=0, le=1, description="probability of a left-right mirror image")
    jitter: float = Field(0.8, ge=0, le=1, description="probability of the four jitters below")
    brightness: float = Field(0.4, ge=0, lt=1, description="factor in 1 -/+ this")
    contrast: float = Field(0.4, ge=0, lt=1, description="factor in 1 -/+ this")
    saturation: float = Field(0.2, ge=0, lt=1, description="factor in 1 -/+ this; colour only")
    hue: float = Field(0.1, ge=0, le=0.5, description="turn in -/+ this, 0.5 = half; colour only")
    grayscale: float = Field(0.2, ge=0, le=1, description="probability; colour only")
    blur_teacher: float = Field(1.0, ge=0, le=1, description="probability, teacher's global view")
    blur_student: float = Field(0.1, ge=0, le=1, description="probability, student's global view")
    blur_local: float = Field(0.5, ge=0, le=1, description="probability, locals and sequences")
    solarize: float = Field(0.2, ge=0, le=1, description="probability, student's global view")


class HeadConfig(Section):
    """The projection head on state token 0."""

    hidden: int = Field(2048, ge=1, description="width of the two hidden layers")
    bottleneck: int = Field(256, ge=1, description="width before the prototypes")
    prototypes: Annotated[int, Field(ge=2)] | Auto = Field(
        65536, description="outputs; auto: by images and batch size"
    )
    batch_norm: bool = Field(False, description="BatchNorm in the hidden layers; helps small runs")


class Seq2GlobalConfig(Section):
    """Settings of ``dino_seq2global``. The defaults are the paper's for ImageNet, else DINO's."""

    glimpses: int = Field(8, ge=1, description="S, glimpses of a sequence")
    locals: int = Field(8, ge=0, description="local views per image")
    global_crop: CropConfig = Field(
        CropConfig(grid=16, scale=(0.32, 1.0)), description="the global views"
    )
    local_crop: CropConfig = Field(
        CropConfig(grid=7, scale=(0.05, 0.32)), description="the local views"
    )
    augment: AugmentConfig = Field(AugmentConfig(), description="photometric augmentation")
    head: HeadConfig = Field(HeadConfig(), description="projection head")
    student_temperature: float = Field(0.1, gt=0, description="softmax temperature")
    teacher_temperature: Schedule | Auto = Field(
        Schedule(start=0.04, end=0.07, shape="linear", until=0.1),
        description="Sinkhorn temperature; auto: low, unless there are very many images",
    )
    sinkhorn_iterations: int = Field(3, ge=1, description="Sinkhorn-Knopp rounds")
    momentum: Schedule | Auto = Field(
        Schedule(start=0.996, end=1.0),
        description="of the teacher's moving average; auto: by the length of training",
    )
    koleo: float = Field(0.1, ge=0, description="weight of the KoLeo term")
    accumulate: Annotated[int, Field(ge=1)] | Auto = Field(
        AUTO,
        description="pieces of a batch whose activations are kept at a time; the update is that of "
        "the whole batch, the student's forward pass is made twice; auto: 1, unless a step would "
        "not fit on a GPU",
    )
    frozen_prototypes: float = Field(
        0.0033, ge=0, lt=1, description="share of training in which the prototypes stay fixed"
    )
