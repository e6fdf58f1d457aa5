"""Settings of the loggers."""

from typing import Literal

from pydantic import Field

from fovea.config import Section


class TensorBoardConfig(Section):
    """Settings of ``tensorboard``: there are none."""


class WandbConfig(Section):
    """Settings of ``wandb``, Weights & Biases. What is not set here, its own environment says."""

    project: str = Field("fovea", description="project that the run belongs to")
    entity: str | None = Field(None, description="user or team; default: your own")
    mode: Literal["online", "offline"] | None = Field(
        None, description="offline: nothing is sent; default: what WANDB_MODE says, else online"
    )


class TrackioConfig(Section):
    """Settings of ``trackio``, which keeps its data on this machine."""

    project: str = Field("fovea", description="project that the run belongs to")
