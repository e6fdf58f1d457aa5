"""The trainer: one loop for all stages, exact to resume."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fovea import __version__
from fovea.data.loader import BadFile, Batch, Order, train_batches
from fovea.engine.checkpoint import Checkpoints, save_file
from fovea.engine.log import RunLog
from fovea.engine.optim import build_optimizer, set_schedules
from fovea.engine.seeding import step_generator
from fovea.engine.stopping import Interrupted, StopRequest
from fovea.engine.watch import CollapseWatch
from fovea.interfaces import DataSet, Loss, PatchExtractor
from fovea.recipe import Recipe, StageConfig
from fovea.stages.stage import Stage

_BAD = "bad_images.jsonl"


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and where to look."""


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


class Trainer:
    """Trains one stage: reads batches, steps the optimiser, logs, checkpoints, resumes.

    Args:
        stage: on its device.
        config: of the stage.
        recipe: of the run.
        extractor: prepares the images.
        data: the train split.
        folder: of the stage, below the run_dir.
    """

    def __init__(
        self,
        stage: Stage,
        config: StageConfig,
        recipe: Recipe,
        extractor: PatchExtractor,
        data: DataSet,
        folder: Path,
    ):
        self.stage, self.config, self.recipe, self.data = stage, config, recipe, data
        self.extractor = extractor
        self.folder = folder
        self.name = folder.name
        self.device = next(stage.parameters()).device
        self.length = Length.of(config, len(data))
        self.optimizer = build_optimizer(
            stage.named_parameters(), stage.no_weight_decay(), config.optimizer
        )
        self.checkpoints = Checkpoints(folder, recipe.keep)
        self.watch = CollapseWatch()
        self.bad: dict[str, BadFile] = {}

    def run(self, stop: StopRequest) -> None:
        """Train from the newest checkpoint, or the beginning, to the end or until asked to stop.

        Raises:
            Interrupted: a signal asked to stop; a checkpoint was saved.
            TrainingError: a number is not finite, or too many images are bad.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        start = self._resume()
        order = Order(
            len(self.data), self.config.batch_size, self.recipe.seed, start, self.length.steps
        )
        batches = train_batches(self.data, order, self.recipe.workers)
        log = RunLog(self.folder, self.name, start, self.length.steps, self.config.batch_size)
        self.stage.train()
        with log:
            for step, batch in enumerate(batches, start):
                self._note_bad(batch.bad)
                loss, norm = self._step(step, batch)
                if step % self.recipe.log_every == 0 or step + 1 == self.length.steps:
                    self._log(log, step, loss, norm)
                else:
                    log.step(step, None)
                last = step + 1 == self.length.steps
                signal = stop.number  # asked once: it may arrive at any moment
                if signal is not None or last or (step + 1) % self.recipe.checkpoint_every == 0:
                    self._save(step + 1)
                if signal is not None:
                    raise Interrupted(signal)
            self._say_bad(log)

    def _step(self, step: int, batch: Batch) -> tuple[Loss | None, float]:
        """Make one optimiser step; a batch without two good images is passed over."""
        if len(batch.images) < 2:
            return None, 0.0
        progress = step / self.length.scheduled
        generator = step_generator(self.recipe.seed, self.name, step, self.device)
        scene = self.extractor.prepare(batch.images, self.device)
        labels = batch.labels.to(self.device)
        reduced = self.recipe.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=reduced):
            loss: Loss = self.stage(scene, labels, progress, generator)
        self._check_finite(loss.total, "loss", step, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.stage.parameters(), self.config.optimizer.clip)
        self._check_finite(norm, "norm of the gradient", step, batch)
        set_schedules(self.optimizer, self.config.optimizer, progress)
        self.optimizer.step()
        self.stage.update(progress)
        return loss, float(norm)

    def _check_finite(self, value: Tensor, what: str, step: int, batch: Batch) -> None:
        """Stop before the optimiser sees a number that is not finite; keep what explains it."""
        if torch.isfinite(value).all():
            return
        file = self.folder / f"nonfinite-step-{step:08d}.pt"
        save_file(
            {
                "format": 1,
                "step": step,
                "seed": self.recipe.seed,
                "names": batch.names,
                "images": [torch.from_numpy(image) for image in batch.images],
                "labels": batch.labels,
                "stage": self.stage.state_dict(),
            },
            file,
        )
        raise TrainingError(
            f"{self.name}: the {what} of step {step} is {float(value.detach())}; nothing was "
            f"updated. The batch ({', '.join(batch.names[:4])}, ...), its images and the weights "
            f"are in {file}"
        )

    def _log(self, log: RunLog, step: int, loss: Loss | None, norm: float) -> None:
        if loss is None:
            log.say(f"step {step} was passed over: fewer than two of its images could be read")
            log.step(step, None)
            return
        metrics = {
            "loss": float(loss.total.detach()),
            "gradient_norm": norm,
            "lr": self.optimizer.param_groups[0]["lr"],
            **{name: float(value) for name, value in loss.metrics.items()},
            **self.watch.measure(loss.features),
        }
        log.step(step, metrics)
        width = max((min(value.shape) for value in loss.features.values()), default=0)
        for warning in self.watch.warnings(step, metrics, width):
            log.warn(step, warning)

    def _save(self, step: int) -> None:
        """Save all that the next step depends on; order, views and gazes follow from the step."""
        contents = {
            "stage": self.stage.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "seed": self.recipe.seed,
            "threads": torch.get_num_threads(),
            "versions": {"fovea": __version__, "torch": str(torch.__version__)},
            "warned": sorted(self.watch.warned),
        }
        self.checkpoints.save(step, contents)

    def _resume(self) -> int:
        """Load the newest checkpoint; return the step to go on with."""
        self.bad = {one.name: one for one in _read_bad(self.folder / _BAD)}
        contents, problems = self.checkpoints.load_newest()
        for problem in problems:
            print(f"{self.name}: {problem}; using the one before", flush=True)
        if contents is None:
            return 0
        try:
            self.stage.load_state_dict(contents["stage"])
            self.optimizer.load_state_dict(contents["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise TrainingError(
                f"{self.folder} has a checkpoint of another model: {reason}; use another run_dir"
            ) from error
        torch.set_num_threads(contents["threads"])  # another number would change the bits
        self.watch.warned = set(contents["warned"])
        step: int = contents["step"]
        print(f"{self.name}: resumed at step {step} of {self.length.steps}", flush=True)
        return step

    def _note_bad(self, bad: list[BadFile]) -> None:
        """Write down each bad image once; stop when there are too many."""
        new = {one.name: one for one in bad if one.name not in self.bad}
        if not new:
            return
        self.bad.update(new)
        with (self.folder / _BAD).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(vars(one)) + "\n" for one in new.values())
        if len(self.bad) > self.recipe.max_bad_images:
            raise TrainingError(
                f"{len(self.bad)} images could not be read, more than max_bad_images="
                f"{self.recipe.max_bad_images}; they are named in {self.folder / _BAD}"
            )

    def _say_bad(self, log: RunLog) -> None:
        if self.bad:
            names = ", ".join(list(self.bad)[:5]) + (", ..." if len(self.bad) > 5 else "")
            log.say(
                f"{len(self.bad)} images could not be read and were left out: {names}; the reasons "
                f"are in {self.folder / _BAD}"
            )


def _read_bad(file: Path) -> list[BadFile]:
    """Read the bad images that an interrupted run has named; a torn last line is left out."""
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [BadFile(**json.loads(line)) for line in lines if line.endswith("\n")]
