"""What a run says: a progress bar or plain lines, metrics as JSON lines, and loggers."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from fovea.config import ConfigError, to_tree
from fovea.engine.checkpoint import save_text
from fovea.engine.pace import Pace
from fovea.engine.stopping import Interrupted
from fovea.interfaces import Logger
from fovea.parts import part
from fovea.recipe import Recipe

METRICS = "metrics.jsonl"
LENGTH = "length.json"
_LINES = 20  # plain lines per stage, where the output is no terminal
_ASKED_TO_STOP = (Interrupted, KeyboardInterrupt)


class RunLog:
    """The log of one stage, as a context manager.

    Args:
        folder: of the stage; ``metrics.jsonl`` is written here, whatever the loggers do.
        stage: its name, for display.
        start: step at which this process begins; later lines of an interrupted one are dropped.
        steps: number of steps of the stage.
        batch_size: images per step, of all processes together.
        loggers: what ``open_loggers`` opened.
        is_main: False in all but one process of a run: their logs say and write nothing.
    """

    def __init__(
        self,
        folder: Path,
        stage: str,
        start: int,
        steps: int,
        batch_size: int,
        loggers: Sequence[tuple[str, Logger]] = (),
        is_main: bool = True,
    ):
        self.stage, self.steps, self.is_main = stage, steps, is_main
        if is_main:
            _drop_lines_after(folder / METRICS, start)
            length = {"steps": steps, "batch_size": batch_size}
            save_text(json.dumps(length) + "\n", folder / LENGTH)
        file = folder / METRICS if is_main else Path(os.devnull)
        self.metrics = file.open("a", encoding="utf-8")
        self.pace = Pace(batch_size)
        self.last, self.next_line = start - 1, float(start)
        self.bar = tqdm(
            total=steps,
            initial=start,
            desc=stage,
            unit="step",
            disable=not (is_main and sys.stderr.isatty()),
            dynamic_ncols=True,
        )
        self.loggers = _Loggers(loggers, self.say)

    def step(self, step: int, metrics: Mapping[str, float] | None) -> None:
        """Count a finished step; with metrics, log them, with the speed since they last were.

        ``data_wait`` is the share of the time since then in which nothing was done but waiting for
        data, see ``waiting`` and ``waited``. A device that computes what is queued is less than a
        step behind: the trainer waits for each step's loss.
        """
        self.bar.update()
        self.pace.steps += 1
        self.last = step
        if metrics is None:
            return
        speed, wait = self.pace.lap()
        timing = {"images_per_second": round(speed, 1), "data_wait": round(wait, 4)}
        self.record(step, {**metrics, **timing})
        shown = f"loss {metrics['loss']:.3f}  lr {metrics['lr']:.1e}  {speed:.0f} images/s"
        shown += f"  {wait:.0%} waiting"
        self.bar.set_postfix_str(shown)
        if self.bar.disable and (step >= self.next_line or step + 1 == self.steps):
            self.next_line = step + self.steps / _LINES
            minutes, seconds = divmod(round(self.pace.seconds_left(self.steps - step - 1)), 60)
            count = f"{step + 1:{len(str(self.steps))}}/{self.steps}"
            self.say(f"{self.stage:8} {count}  {shown}  {minutes}:{seconds:02} left")

    def waiting(self) -> AbstractContextManager[None]:
        """Count the time of a block as waiting for data."""
        return self.pace.waiting()

    def waited(self, seconds: float) -> None:
        """Count seconds in which the device waited for data, while the host may have been busy."""
        self.pace.waited += seconds

    def aside(self) -> AbstractContextManager[None]:
        """Leave the time of a block out of the speed: it is no training."""
        return self.pace.aside()

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers of a step, such as those measured beside training."""
        self._write({"step": step, **values})
        self.loggers.metrics(step, values)

    def picture(self, step: int, name: str, file: Path) -> None:
        """Show a picture, which lies in the run's folder."""
        self.loggers.picture(step, name, file)

    def warn(self, step: int, text: str) -> None:
        """Print a warning, and keep it with the metrics."""
        self.say(f"WARNING {text}")
        self._write({"step": step, "warning": text})
        self.loggers.warning(step, text)

    def say(self, text: str) -> None:
        """Print a line without breaking the bar."""
        if self.is_main:
            tqdm.write(text) if not self.bar.disable else print(text, flush=True)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.close()
        if error is not None and not isinstance(error, _ASKED_TO_STOP):
            self._write({"step": self.last + 1, "failed": _sentence(error)})
        self.metrics.close()
        self.loggers.close()

    def _write(self, line: Mapping[str, float | str]) -> None:
        self.metrics.write(json.dumps(line) + "\n")
        self.metrics.flush()


def open_loggers(recipe: Recipe, folder: Path, start: int) -> list[tuple[str, Logger]]:
    """Open the loggers of a stage, each with what messages call it.

    Before anything of the run was logged, one that does not start stops the run: somebody is
    there to see it. Later it is left out with a line, and the run goes on.

    Raises:
        ConfigError: a logger does not start.
    """
    run_dir = folder.parent
    has_begun = any(run_dir.glob(f"*/{METRICS}"))
    opened = []
    for number, component in enumerate(recipe.loggers):
        label = f"loggers.{number} ({component.name})"
        where = {"folder": run_dir, "stage": folder.name, "start": start}
        try:
            opened.append((label, part("logger", component, **where, run=to_tree(recipe))))
        except Exception as error:  # a stranger's code, maybe over a network: it may raise anything
            problem = f"{label}: did not start: {_sentence(error)}"
            if not has_begun:
                _Loggers(opened, print).close()
                raise ConfigError([problem]) from error
            print(f"WARNING {problem}; the run goes on without it", flush=True)
    return opened


class _Loggers:
    """All loggers of a stage; one that fails is reported once and left out."""

    def __init__(self, named: Sequence[tuple[str, Logger]], say: Callable[[str], None]):
        self.named, self.say = list(named), say

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self._each(lambda logger: logger.metrics(step, values))

    def warning(self, step: int, text: str) -> None:
        self._each(lambda logger: logger.warning(step, text))

    def picture(self, step: int, name: str, file: Path) -> None:
        self._each(lambda logger: logger.picture(step, name, file))

    def close(self) -> None:
        self._each(lambda logger: logger.close())

    def _each(self, act: Callable[[Logger], None]) -> None:
        for label, logger in list(self.named):
            try:
                act(logger)
            except Exception as error:  # a stranger's code, maybe over a network
                self.named.remove((label, logger))
                self.say(f"WARNING {label}: failed and is left out from now on: {_sentence(error)}")


def _sentence(error: BaseException) -> str:
    """Say an error in a line; what we raise on purpose is a sentence already."""
    text = " ".join(str(error).split())
    is_sentence = isinstance(error, ValueError) and text
    return text if is_sentence else f"{type(error).__name__}: {text}"


def _drop_lines_after(file: Path, start: int) -> None:
    """Forget what an interrupted process logged after its last checkpoint: it is done again."""
    if not file.exists():
        return
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    save_text("".join(line for line in lines if _step_of(line) < start), file)


def _step_of(line: str) -> float:
    """Return the step of a line; that of a torn one, as a crash leaves it, never came."""
    try:
        step: int = json.loads(line)["step"] if line.endswith("\n") else sys.maxsize
    except (ValueError, TypeError, KeyError):
        return sys.maxsize
    return step
