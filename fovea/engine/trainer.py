"""The trainer: one loop for all stages, exact to resume.

A CUDA device computes while the host works: the host queues a whole step, update included, fetches
the next batch, and only then waits for the step's numbers, to judge it as the device has already.
Between logged steps it waits for nothing else of the device, and is less than a step ahead of it.
"""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fovea import __version__, collective
from fovea.data.loader import Batch, Order, train_batches
from fovea.data.workers import ReadingError
from fovea.engine.bad_images import BadImages
from fovea.engine.capture import capture
from fovea.engine.checkpoint import Checkpoints, load_file
from fovea.engine.distributed import agree, from_first, listed, parallelised, say, whole
from fovea.engine.guard import MOST_IN_A_ROW, Guard, copies, put_back
from fovea.engine.log import RunLog, open_loggers
from fovea.engine.online import Online
from fovea.engine.optim import build_optimizer, clip_gradients, set_schedules
from fovea.engine.restore import restore
from fovea.engine.seeding import step_generator
from fovea.engine.stopping import Interrupted, StopRequest, TrainingError
from fovea.engine.transfer import Feed, Sent, transfer_to
from fovea.engine.watch import CollapseWatch
from fovea.interfaces import DataSet, Loss, PatchExtractor
from fovea.length import Length
from fovea.recipe import Recipe, StageConfig
from fovea.stages.stage import Stage


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
        self.transfer = transfer_to(self.device, extractor.takes_packed_on_device)
        self.ahead = self.device.type == "cuda"  # whether it computes while the host reads
        self.length = Length.of(config, len(data))
        self.parallel = parallelised(stage, recipe.parallel, self.device)
        self.optimizer = build_optimizer(stage, config.optimizer)
        self.checkpoints = Checkpoints(folder, recipe.keep)
        self.watch = CollapseWatch()
        self.guard = Guard()
        self.best = -1.0, 0  # accuracy beside training, and after how many steps
        self.bad = BadImages(folder, recipe.max_bad_images)

    def run(self, stop: StopRequest, online: Online | None = None) -> None:
        """Train from the newest checkpoint, or the beginning, to the end or until asked to stop.

        Args:
            stop: the signal that asked to stop, if one did.
            online: measures beside training.

        Raises:
            Interrupted: a signal asked to stop; a checkpoint was saved.
            TrainingError: data cannot be read, numbers are not finite, or nothing can be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        start = self._resume()
        recipe, size, steps = self.recipe, self.config.batch_size, self.length.steps
        is_first = collective.rank() == 0
        loggers = open_loggers(recipe, self.folder, start) if is_first else ()
        log = RunLog(self.folder, self.name, start, steps, size, loggers, is_first)
        feed = self.feed(self._order(start))
        self.stage.train()
        try:
            with log, closing(feed), feed.batches.named():
                for step in range(start, steps):
                    self._advance(step, feed, log, stop, online)
                if self.bad.names:
                    log.say(str(self.bad))
        except (ReadingError, OSError) as error:
            raise TrainingError(
                f"{self.name}: {error}; the same command goes on from the newest checkpoint"
            ) from error

    def feed(self, order: Order) -> Feed[Any]:
        """Read the batches of an order, on their way to the device."""
        recipe = self.recipe
        batches = train_batches(self.data, order, recipe.workers, recipe.data_timeout)
        return Feed(batches, self.transfer, len(order), self.ahead, self.stage.needs_labels)

    def _advance(
        self,
        step: int,
        feed: Feed[Any],
        log: RunLog,
        stop: StopRequest,
        online: Online | None,
    ) -> None:
        """Make a step, and all that may be due after it."""
        with log.waiting():
            sent = next(feed)
        loss, norm = self._step(step, sent, log, feed.fetch)
        log.waited(feed.waited())
        last = step + 1 == self.length.steps
        if loss is not None and (step % self.recipe.log_every == 0 or last):
            self._log(log, step, loss, norm)
        else:
            log.step(step, None)
        measured = online is not None and online.is_due(step, last)
        score = online.measure(step, log) if online is not None and measured else None
        is_best = score is not None and score > self.best[0]
        signal, best = agree(stop.number or 0, is_best)  # asked once: it may arrive at any moment
        if is_best and score is not None:
            self.best = score, step + 1
        if signal or best or last or (step + 1) % self.recipe.checkpoint_every == 0:
            self._save(step + 1, log, must=bool(signal) or last)
        if signal:
            raise Interrupted(signal)

    def whole_state(self) -> dict[str, Tensor]:
        """Return the weights of the stage, gathered where they are shared out."""
        state: dict[str, Tensor] = whole(self.stage.state_dict())
        return state

    def _order(self, start: int) -> Order:
        size, world = self.config.batch_size, collective.world()
        if size % world:
            raise ValueError(
                f"{self.name}.batch_size: {size} images cannot be shared by {world} processes"
            )
        images, steps = len(self.data), self.length.steps
        return Order(images, size, self.recipe.seed, start, steps, collective.rank(), world)

    def _step(
        self, step: int, sent: Sent[Any], log: RunLog, meanwhile: Callable[[], None]
    ) -> tuple[Loss | None, float]:
        """Make one optimiser step, unless the batch or its numbers are no good.

        ``meanwhile`` runs while the device computes.
        """
        batch = sent.batch
        missing, bad = agree(-len(batch.images), len(batch.bad))
        if bad:
            self.bad.note(listed(batch.bad))
        if -missing < 2:
            log.say(f"step {step} was passed over: fewer than two of its images could be read")
            return None, 0.0
        before = copies(self.stage.buffers())  # averages of batch normalisation
        loss, grown = self.forward_backward(step, sent, collective.rank())
        mean = collective.total(loss.total.detach().float()) / collective.world()
        numbers = torch.stack([mean, grown])
        on_host, known = numbers.to("cpu", non_blocking=True), self.transfer.mark()
        progress = step / self.length.scheduled
        set_schedules(self.optimizer, self.config.optimizer, progress)
        self.optimizer.step_unless(self.guard.objects(numbers))
        meanwhile()
        self.transfer.wait(known)  # while the device updates the weights
        value, norm = on_host.tolist()
        objection = self.guard.objection(value, norm)
        if objection is None:
            self.stage.update(progress)
            return loss, norm
        put_back(self.stage.buffers(), before)
        self._skip(step, batch, objection, log)
        return (None if self.guard.in_a_row else loss), norm

    def forward_backward(self, step: int, sent: Sent[Any], rank: int) -> tuple[Loss, Tensor]:
        """Compute the loss of a step's images, their gradients, clipped, and the norm of these."""
        seed, size = self.recipe.seed, self.config.batch_size
        self.transfer.receive(sent)
        generator = step_generator(seed, self.name, step, self.device, sent.places, size, rank)
        scene = self.extractor.prepare(sent.images, self.device)
        reduced = self.recipe.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=reduced):
            loss: Loss = self.parallel(scene, sent.labels, step / self.length.scheduled, generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        return loss, clip_gradients(self.stage, self.config.optimizer.clip)

    def _skip(self, step: int, batch: Batch, objection: str, log: RunLog) -> None:
        """Say that a step is not taken; stop when there is no going on."""
        text = f"step {step} was skipped: {objection}"
        if not self.guard.in_a_row:
            log.warn(step, text)
            return
        file = capture(self.folder, step, batch, self.whole_state())
        names = ", ".join(batch.names[:4])
        text += f"; the batch ({names}, ...) and the weights are in {file}, which replays it"
        log.warn(step, text)
        if self.guard.in_a_row >= MOST_IN_A_ROW:
            raise TrainingError(f"{self.name}: {MOST_IN_A_ROW} steps in a row; {text}")

    def _log(self, log: RunLog, step: int, loss: Loss, norm: float) -> None:
        features = {name: collective.gathered(value) for name, value in loss.features.items()}
        values = {"loss": loss.total.detach(), **loss.metrics}
        here = [one.float().to(self.device) for one in values.values()]
        means = collective.total(torch.stack(here)) / collective.world()
        measures = self.watch.measure(features)
        numbers = torch.stack([*means, *measures.values()]).tolist()  # one copy, one wait
        metrics = {
            **dict(zip(values, numbers[: len(values)], strict=True)),
            "gradient_norm": norm,
            "lr": self.config.optimizer.lr.at(step / self.length.scheduled),
            "skipped_steps": self.guard.skipped,
            **dict(zip(measures, numbers[len(values) :], strict=True)),
        }
        log.step(step, metrics)
        width = max((min(value.shape) for value in features.values()), default=0)
        for warning in self.watch.warnings(step, metrics, width):
            log.warn(step, warning)

    def _save(self, step: int, log: RunLog, must: bool) -> None:
        """Save all that the next step depends on; order, views and gazes follow from the step.

        The first process writes whole weights, so that any number of processes may go on.
        """
        contents = {
            "stage": self.whole_state(),
            "optimizer": whole(self.optimizer.state_dict()),
            "seed": self.recipe.seed,
            "threads": torch.get_num_threads(),
            "versions": {"fovea": __version__, "torch": str(torch.__version__)},
            "warned": sorted(self.watch.warned),
            "guard": self.guard.state(),
            "best": self.best,
        }
        if collective.rank() > 0:
            return
        try:
            self.checkpoints.save(step, contents)
            self._keep_best(step)
        except OSError as error:
            if must or self.recipe.on_save_error == "stop":
                raise
            log.warn(step - 1, f"{error}; training goes on")

    def _keep_best(self, step: int) -> None:
        if self.best[1] == step:
            self.checkpoints.keep_best(step)

    def _resume(self) -> int:
        """Load the newest checkpoint; return the step to go on with."""
        contents = self._newest()
        if contents is None:
            return 0
        step: int = contents["step"]
        restore(self.stage, self.optimizer, contents, str(self.checkpoints.file(step)))
        torch.set_num_threads(contents["threads"])  # another number would change the bits
        self.watch.warned = set(contents["warned"])
        self.guard.load_state(contents["guard"])
        self.best = contents["best"]
        if collective.rank() == 0:
            self._keep_best(step)  # the process may have been killed just before it did
        say(f"{self.name}: resumed at step {step} of {self.length.steps}")
        return step

    def _newest(self) -> dict[str, Any] | None:
        """Load the newest checkpoint that is whole; the first process says which one that is."""
        contents: dict[str, Any] | None = None
        problems: list[str] = []
        if collective.rank() == 0:
            contents, problems = self.checkpoints.load_newest()
        for problem in problems:
            say(f"{self.name}: {problem}; using the one before")
        step = from_first(None if contents is None else contents["step"])
        if step is None or collective.rank() == 0:
            return contents
        return load_file(self.checkpoints.file(step))
