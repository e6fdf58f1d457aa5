"""Schedules: a value as a pure function of progress, which runs from 0 to 1."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fovea.config import AUTO, Auto, Section, number


class Schedule(Section):
    """A value over training: linear warm-up from 0, way from ``start`` to ``end``, then constant.

    In YAML a plain number stands for a constant.
    """

    start: float = Field(description="value at the beginning (after the warm-up)")
    end: float = Field(description="value at the end")
    shape: Literal["cosine", "linear"] = Field("cosine", description="way from start to end")
    warmup: Annotated[float, Field(ge=0, lt=1)] | Auto = Field(
        0.0,
        description="share of training in which it rises from 0 to start; in a stage's settings, "
        "auto: by its steps",
    )
    until: float = Field(
        1.0, gt=0, le=1, description="share of training after which it stays at end"
    )

    @model_validator(mode="after")
    def _in_order(self) -> "Schedule":
        if self.warmup != AUTO and self.warmup >= self.until:
            raise ValueError(f"warmup ({self.warmup}) must end before until ({self.until})")
        return self

    @classmethod
    def from_number(cls, value: float) -> dict[str, float]:
        """Read a plain number as a constant."""
        return {"start": float(value), "end": float(value)}

    def at(self, progress: float) -> float:
        """Evaluate at progress in 0..1."""
        # imported here so that a config is checked without it
        from fvcore.common.param_scheduler import CosineParamScheduler, LinearParamScheduler

        progress = min(max(progress, 0.0), 1.0)
        warmup = number(self.warmup, "warmup")
        if progress < warmup:
            return float(LinearParamScheduler(0.0, self.start)(progress / warmup))
        if progress >= self.until:
            return self.end
        curve = CosineParamScheduler if self.shape == "cosine" else LinearParamScheduler
        return float(curve(self.start, self.end)((progress - warmup) / (self.until - warmup)))
