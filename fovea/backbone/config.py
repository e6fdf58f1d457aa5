"""Settings of the backbones."""

from typing import Literal

from pydantic import Field

from fovea.config import Section


class TimmViTConfig(Section):
    """Settings of ``timm_vit``."""

    arch: str = Field(
        "vit_small_patch16_224", description="name of a plain timm ViT, for timm.create_model"
    )
    pretrained: bool = Field(False, description="start from timm's weights for that name")
    width: int | None = Field(None, ge=1, description="embedding width; default: the arch's")
    depth: int | None = Field(None, ge=1, description="number of blocks; default: the arch's")
    heads: int | None = Field(None, ge=1, description="attention heads; default: the arch's")
    state_tokens: int = Field(8, ge=1, description="K, learned tokens that carry what was seen")
    drop_path: float = Field(0.0, ge=0, lt=1, description="stochastic depth at the last block")
    layer_scale: float | None = Field(
        None, gt=0, description="initial LayerScale; 1e-5 makes all images start with one feature"
    )
    attention: Literal["auto", "sdpa", "xformers"] = Field(
        "auto",
        description="attention kernel on a GPU; auto: xformers where it runs and is no slower "
        "than torch's SDPA, which the CPU always has",
    )
    init: Literal["timm", "xavier"] = Field(
        "timm", description="weights of linear layers at the start; xavier suits narrow models"
    )
    mean: tuple[float, ...] = Field(
        (0.485, 0.456, 0.406), description="mean of each channel, 0..1; sets the channel count"
    )
    std: tuple[float, ...] = Field(
        (0.229, 0.224, 0.225), description="standard deviation of each channel, 0..1"
    )
