"""Settings of distillation."""

from pydantic import Field, model_validator

from fovea.config import Section
from fovea.objective.config import CropConfig


class HeadConfig(Section):
    """The transformer that tells the teacher's features from the state."""

    width: int = Field(256, ge=1, description="width")
    depth: int = Field(1, ge=1, description="blocks")
    heads: int = Field(4, ge=1, description="attention heads; divides the width")

    @model_validator(mode="after")
    def _divides(self) -> "HeadConfig":
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide the width {self.width}")
        return self


class DistillConfig(Section):
    """Settings of ``distill``."""

    teacher: str = Field(
        description="name of a timm ViT, such as vit_small_patch16_dinov3.lvd1689m"
    )
    weights: str = Field(
        "timm",
        description="of the teacher. timm: those of its name, which timm fetches; random: none, "
        "the same in every run, for tests and controls; else a .safetensors file in timm's names",
    )
    glimpses: int = Field(8, ge=1, description="S, glimpses of a sequence")
    view: CropConfig = Field(
        CropConfig(grid=14, scale=(0.32, 1.0)),
        description="what the teacher sees: grid * model.patch_size pixels a side, which its own "
        "patch side divides; the student sees it too, beside the sequence",
    )
    queries: int = Field(
        49,
        ge=1,
        description="places of the teacher's map that are asked for after each look, drawn for "
        "each image; all of them where it has no more",
    )
    head: HeadConfig = Field(HeadConfig(), description="from the state to the teacher's features")
