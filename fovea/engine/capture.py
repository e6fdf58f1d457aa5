"""Steps with numbers that are not finite, kept in files that replay them.

A file has the batch, its names, and the weights before the step; images that are not in memory are
read again by the run's data set. ``python -m fovea.engine.capture FILE`` makes the step again, with
the same numbers, and names the first module that made one which is not finite.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from fovea import collective
from fovea.config import ConfigError, read_yaml, validate
from fovea.data.loader import Batch, Key, Order
from fovea.engine.checkpoint import load_file, save_file
from fovea.images import Array, Unopened
from fovea.recipe import Recipe
from fovea.train import report

if TYPE_CHECKING:
    from fovea.engine.trainer import Trainer

_KEEP = 3  # files per stage and rank; each has all weights


@dataclass(frozen=True)
class Replayed:
    """What a captured step gives.

    Attributes:
        loss: of this process's images.
        norm: of the gradient.
        module: the first whose output was not finite, or None: then it was the loss or a gradient.
    """

    loss: float
    norm: float
    module: str | None


def capture(folder: Path, step: int, batch: Batch, weights: dict[str, Tensor]) -> Path:
    """Write what explains a step; of earlier ones the last few are kept.

    Raises:
        OSError: it could not be written.
    """
    rank = collective.rank()
    file = folder / f"nonfinite-step-{step:08d}-rank-{rank}.pt"
    contents = {
        "step": step,
        "rank": rank,
        "names": batch.names,
        "places": batch.places,
        "images": _pixels(batch.images),
        "labels": batch.labels,
        "stage": weights,
    }
    save_file(contents, file)
    for old in sorted(folder.glob(f"nonfinite-step-*-rank-{rank}.pt"))[:-_KEEP]:
        old.unlink()
    return file


def replay(file: Path) -> Replayed:
    """Make a captured step again, in the folder of its run, up to its gradients.

    Of several processes, this makes the step of the one that wrote the file, alone.

    Raises:
        ValueError: the file is damaged, or its run is not there.
    """
    from fovea.engine.distributed import load_stage
    from fovea.engine.run import build_trainer

    contents = load_file(file)
    run_dir = file.absolute().parent.parent
    recipe = validate(Recipe, {**read_yaml(run_dir / "config.yaml"), "run_dir": str(run_dir)})
    trainer = build_trainer(recipe, file.absolute().parent.name)
    load_stage(trainer.stage, contents["stage"])
    trainer.stage.train()
    with _first_not_finite(trainer.stage) as found:
        batch = _batch(trainer, contents)
        sent = trainer.transfer.send(batch)
        loss, norm = trainer.forward_backward(contents["step"], sent, contents["rank"])
    return Replayed(float(loss.total.detach()), float(norm), found[0] if found else None)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fovea.engine.capture",
        description="Make a step again that had numbers which were not finite.",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="nonfinite-step-*.pt of a run")
    file = parser.parse_args(argv).file
    try:
        replayed = replay(file)
    except ConfigError as error:
        return report(error.lines)
    except (ValueError, OSError) as error:
        return report([str(error)])
    print(f"loss {replayed.loss}, norm of the gradient {replayed.norm}")
    if replayed.module is not None:
        print(f"the first output that is not finite is that of {replayed.module}")
    return 0


def _pixels(images: Sequence[Array | Unopened]) -> list[Tensor] | None:
    """Return pixels to keep; None where there are none before the extractor opens the images."""
    arrays = [torch.from_numpy(image) for image in images if isinstance(image, np.ndarray)]
    return arrays if len(arrays) == len(images) else None


def _batch(trainer: "Trainer", contents: dict[str, Any]) -> Batch:
    kept, places = contents["images"], contents["places"]
    images: list[Array | Unopened] = [image.numpy() for image in kept or ()]
    if kept is None:
        wanted = set(places.tolist())
        images = [
            trainer.data.sample(index, epoch).image
            for index, epoch, place in _keys(trainer, contents["step"])
            if place in wanted
        ]
    return Batch(images, contents["labels"], None, contents["names"], places, [])


def _keys(trainer: "Trainer", step: int) -> list[Key]:
    """List the images of a step, of all processes."""
    images, size, seed = len(trainer.data), trainer.config.batch_size, trainer.recipe.seed
    return next(iter(Order(images, size, seed, step, step + 1)))


@contextmanager
def _first_not_finite(stage: nn.Module) -> Iterator[list[str]]:
    """List the modules whose outputs are not finite, in the order in which they end."""
    found: list[str] = []

    def watch(name: str, output: object) -> None:
        if isinstance(output, Tensor) and not torch.isfinite(output).all():
            found.append(name)

    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: watch(name, output))
        for name, module in stage.named_modules()
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


if __name__ == "__main__":
    sys.exit(main())
