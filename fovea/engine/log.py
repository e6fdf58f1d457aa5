"""What a run says: a progress bar or plain lines, metrics as JSON lines, TensorBoard."""

import json
import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from fovea.engine.checkpoint import save_text

_LINES = 20  # plain lines per stage, where the output is no terminal


class RunLog:
    """The log of one stage, as a context manager.

    Args:
        folder: ``metrics.jsonl`` and TensorBoard's events are written here.
        stage: its name, for display.
        start: step at which this process begins; later lines of an interrupted one are dropped.
        steps: number of steps of the stage.
        batch_size: images per step, for images/s.
    """

    def __init__(self, folder: Path, stage: str, start: int, steps: int, batch_size: int):
        self.stage, self.start, self.steps, self.batch_size = stage, start, steps, batch_size
        file = folder / "metrics.jsonl"
        _drop_lines_after(file, start)
        self.metrics = file.open("a", encoding="utf-8")
        self.began = time.monotonic()
        self.next_line = float(start)
        self.bar = tqdm(
            total=steps,
            initial=start,
            desc=stage,
            unit="step",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
        )
        self.tensorboard = None
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            self.tensorboard = SummaryWriter(str(folder / "tensorboard"), purge_step=start)

    def step(self, step: int, metrics: Mapping[str, float] | None) -> None:
        """Count a finished step; with metrics, log them."""
        self.bar.update()
        if metrics is None:
            return
        speed = self.speed(step)
        line = {"step": step, **metrics, "images_per_second": round(speed, 1)}
        self.metrics.write(json.dumps(line) + "\n")
        self.metrics.flush()
        if self.tensorboard is not None:
            for name, value in metrics.items():
                self.tensorboard.add_scalar(f"{self.stage}/{name}", value, step)
        shown = f"loss {metrics['loss']:.3f}  lr {metrics['lr']:.1e}  {speed:.0f} images/s"
        self.bar.set_postfix_str(shown)
        if self.bar.disable and (step >= self.next_line or step + 1 == self.steps):
            self.next_line = step + self.steps / _LINES
            left = (self.steps - step - 1) * self.batch_size / max(speed, 1e-9)
            minutes, seconds = divmod(round(left), 60)
            count = f"{step + 1:{len(str(self.steps))}}/{self.steps}"
            print(f"{self.stage:8} {count}  {shown}  {minutes}:{seconds:02} left", flush=True)

    def warn(self, step: int, text: str) -> None:
        """Print a warning, and keep it with the metrics."""
        self.say(f"WARNING {text}")
        self.metrics.write(json.dumps({"step": step, "warning": text}) + "\n")

    def say(self, text: str) -> None:
        """Print a line without breaking the bar."""
        tqdm.write(text) if not self.bar.disable else print(text, flush=True)

    def speed(self, step: int) -> float:
        """Images per second since this process began the stage."""
        done = (step + 1 - self.start) * self.batch_size
        return done / max(time.monotonic() - self.began, 1e-9)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.close()
        self.metrics.close()
        if self.tensorboard is not None:
            self.tensorboard.close()


def _drop_lines_after(file: Path, start: int) -> None:
    """Forget what an interrupted process logged after its last checkpoint: it is done again."""
    if not file.exists():
        return
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] < start]
    save_text("".join(kept), file)
