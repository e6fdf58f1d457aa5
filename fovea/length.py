"""How long a stage is, from its settings and the number of images. Torch-free."""

from dataclasses import dataclass

from fovea.recipe import StageConfig


@dataclass(frozen=True)
class Length:
    """How long a stage is: its steps, and the steps that its schedules are made for."""

    steps: int
    scheduled: int

    @classmethod
    def of(cls, config: StageConfig, images: int) -> "Length":
        """Count the steps of a stage on a data set of so many images."""
        per_epoch = images // config.batch_size
        if per_epoch == 0:
            raise ValueError(f"batch_size {config.batch_size} is more than the {images} images")
        if config.steps is not None:
            return cls(config.steps, config.steps)
        assert config.epochs is not None
        steps = max(1, round(config.epochs * per_epoch))
        return cls(steps, max(steps, round((config.scheduled_epochs or 0) * per_epoch)))
