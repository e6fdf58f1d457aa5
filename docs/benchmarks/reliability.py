"""Write reliability.md and its two figures: killed runs, and damaged files, by real faults.

``python docs/benchmarks/reliability.py`` takes a few minutes; kills and damage are those of the
tests (``tests/faults``).
"""

import os
import platform
import random
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from matplotlib.figure import Figure
from safetensors.torch import load_file as load_safetensors
from safetensors.torch import save_file as save_safetensors
from torch import Tensor

from fovea.engine.checkpoint import load_file, save_file
from fovea.weights import read_export, write_export

HERE = Path(__file__).parent
PICTURES = HERE.parent / "pictures"
sys.path.insert(0, str(HERE.parents[1] / "tests"))

from faults.damage import BLOCK, KINDS, damaged  # noqa: E402
from faults.trainings import Nursery, assert_same_weights, kill_at_random, logged  # noqa: E402

STEPS, KILLS, TRIES = 500, 20, 200
LEARNING = [  # larger than the tests' model, so that it learns something
    "model.backbone.width=48",
    "model.backbone.depth=2",
    "model.context.grid=3",
    "pretrain.batch_size=32",
    "pretrain.objective.locals=2",
    "pretrain.objective.global_crop.grid=4",
    "pretrain.objective.head.hidden=64",
    "pretrain.objective.head.prototypes=64",
    "probe=null",
    "policy=null",
]
COLOURS = {"SIGKILL": "#d62728", "SIGTERM": "#1f77b4", "SIGUSR1": "#2ca02c"}
KIND_COLOURS = dict(zip(KINDS, ("#d62728", "#ff9896", "#7f7f7f"), strict=True))
WEIGHTS = {f"block.{i}.weight": torch.randn(128, 128, generator=torch.Generator().manual_seed(i))
           for i in range(16)}  # fmt: skip
PAGE = """\
# Reliability, measured

Written by `python docs/benchmarks/reliability.py`: {date}, {machine}, torch {torch}. What is
promised is on the page [Reliability](../reliability.md).

## Killed runs

One pretraining of {steps} steps of a tiny model on the CPU ran without an interruption. The same
command was then started again and again, and killed {kills} times at random moments:
{signals}.
Checkpoints were written every 7 steps; SIGKILL loses what came after the last one, and those steps
are made again. {made} steps were made in all. Every one of them, those made again included, is
compared with that of the uninterrupted run.

![Loss of the uninterrupted run, {kills} kills, difference](../pictures/reliability_kills.png)

**Largest difference of any logged number of any step: {difference:g}.** In the end the weights of
student, teacher and projection heads, prototypes among them, and the optimiser's averages are the
same, bit for bit.

## Damaged files

1 MiB of weights in a file was damaged {tries} times in each of three ways: one bit flipped, one
block of {block} bytes zeroed, its end cut off. *Silently wrong* means that it was read without an
error and gave other weights.

![Silently wrong files of {total} per format](../pictures/reliability_damage.png)

| format | bit flipped | block zeroed | truncated | silently wrong of {total} |
|---|---|---|---|---|
{rows}
The peers are read as their documentation says: `torch.load(weights_only=True)`,
`safetensors.torch.load_file`, `torch.distributed.checkpoint.load`. Where their files have
checksums, these do not look at them. Our checkpoints are files of `torch.save` whose checksums are
looked at; an export is a file of safetensors with its sha256 beside it.
"""


def main() -> None:
    """Inject the faults, draw the figures, write the page."""
    torch.set_num_threads(1)
    killed = kill_runs()
    found = damage_files()
    draw_damage(found)
    rows = "".join(
        f"| {name} | {' | '.join(str(counts[kind]) for kind in KINDS)} | **{counts.total()}** |\n"
        for name, counts in found.items()
    )
    text = PAGE.format(
        date=date.today(),
        machine=platform.processor() or platform.machine(),
        torch=torch.__version__.partition("+")[0],
        steps=STEPS,
        kills=KILLS,
        tries=TRIES,
        total=TRIES * len(KINDS),
        block=BLOCK,
        rows=rows,
        **killed,
    )
    print(text)
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


def kill_runs() -> dict[str, object]:
    """Train without and with kills, compare every step ever made, draw the first figure."""
    draws = random.Random(1)
    names = draws.choices(list(COLOURS), k=KILLS)
    moments = [STEPS // KILLS * number + draws.randrange(20) for number in range(KILLS)]
    kills = [
        ("pretrain", step, signal.Signals[name]) for step, name in zip(moments, names, strict=True)
    ]
    words = [*LEARNING, f"pretrain.steps={STEPS}"]
    with tempfile.TemporaryDirectory() as folder, Nursery() as nursery:
        whole, run = Path(folder, "whole"), Path(folder, "run")
        assert nursery.train(whole, *words).finish(seconds=600)[0] == 0
        expected = logged(whole, "pretrain")
        assert [line["step"] for line in expected] == list(range(STEPS))
        made: list[dict[str, float]] = []
        ends: list[int] = []
        for _, printed in kill_at_random(nursery, run, words, kills):
            lines = logged(run, "pretrain")
            resumed = [line for line in printed.splitlines() if "resumed at step" in line]
            made += lines[int(resumed[0].split()[4]) if resumed else 0 :]
            ends.append(len(lines) - 1)
        assert logged(run, "pretrain") == expected
        assert_same_weights(run, whole)
    apart = [
        max(abs(line[key] - expected[int(line["step"])][key]) for key in line) for line in made
    ]
    draw_kills(expected, made, list(zip(ends, names, strict=False)))
    counted = Counter(names)
    said = ", ".join(f"{counted[name]} times by {name}" for name in COLOURS)
    return {"signals": said, "made": len(made), "difference": max(apart)}


def draw_kills(
    expected: list[dict[str, float]], made: list[dict[str, float]], kills: list[tuple[int, str]]
) -> None:
    """Draw the loss with the kills, and below the difference of every step that was made."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    loss, difference = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    loss.plot([line["step"] for line in expected], [line["loss"] for line in expected],
              color="black", linewidth=1, label="uninterrupted")  # fmt: skip
    for name, colour in COLOURS.items():
        steps = [step for step, by in kills if by == name]
        losses = [expected[step]["loss"] for step in steps]
        loss.scatter(steps, losses, color=colour, s=45, zorder=3, label=f"killed by {name}")
    loss.set_ylabel("loss")
    loss.legend(frameon=False)
    apart = [line["loss"] - expected[int(line["step"])]["loss"] for line in made]
    difference.scatter([line["step"] for line in made], apart, s=4, color="black")
    difference.set(xlabel="step", ylabel="difference", ylim=(-1e-6, 1e-6))
    for axes in (loss, difference):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURES / "reliability_kills.png", dpi=120)


Reader = Callable[[Path], dict[str, Tensor]]


def _write_torch(folder: Path) -> None:
    torch.save(WEIGHTS, folder / "weights.pt")


def _read_torch(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(folder / "weights.pt", weights_only=True)
    return found


def _write_safetensors(folder: Path) -> None:
    save_safetensors(WEIGHTS, folder / "weights.safetensors")


def _read_safetensors(folder: Path) -> dict[str, Tensor]:
    return load_safetensors(folder / "weights.safetensors")


def _write_dcp(folder: Path) -> None:
    dcp.save(dict(WEIGHTS), checkpoint_id=folder, no_dist=True)


def _read_dcp(folder: Path) -> dict[str, Tensor]:
    found = {name: torch.zeros_like(value) for name, value in WEIGHTS.items()}
    dcp.load(found, checkpoint_id=folder, no_dist=True)
    return found


def _write_ours(folder: Path) -> None:
    save_file({"stage": WEIGHTS}, folder / "checkpoint-00000001.pt")


def _read_ours(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = load_file(folder / "checkpoint-00000001.pt")["stage"]
    return found


def _write_export(folder: Path) -> None:
    write_export({"model": {"patch_size": 16}}, WEIGHTS, str(folder))


def _read_export(folder: Path) -> dict[str, Tensor]:
    return read_export(folder)[1]


FORMATS: dict[str, tuple[Callable[[Path], None], Reader]] = {
    "torch.load": (_write_torch, _read_torch),
    "safetensors": (_write_safetensors, _read_safetensors),
    "torch.distributed.checkpoint": (_write_dcp, _read_dcp),
    "fovea: checkpoint": (_write_ours, _read_ours),
    "fovea: export": (_write_export, _read_export),
}


def damage_files() -> dict[str, Counter[str]]:
    """Count for each format and kind of damage how many files are silently wrong."""
    found = {}
    for name, (write, read) in FORMATS.items():
        found[name] = Counter[str]()
        with tempfile.TemporaryDirectory() as folder:
            with warnings.catch_warnings(action="ignore"):
                write(Path(folder))
            for kind in KINDS:
                draws = random.Random(kind)
                found[name][kind] = sum(
                    _is_silently_wrong(Path(folder), read, kind, draws) for _ in range(TRIES)
                )
    return found


def _is_silently_wrong(folder: Path, read: Reader, kind: str, draws: random.Random) -> bool:
    """Damage one file of a folder, read it in a process of its own, and mend it."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    (file,) = draws.choices(files, [one.stat().st_size for one in files])
    whole = file.read_bytes()
    file.write_bytes(damaged(whole, kind, draws))
    reader = os.fork()  # what is read may end the process
    if reader == 0:
        os._exit(_differs(read, folder))
    code = os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1])
    file.write_bytes(whole)
    return code == 1


def _differs(read: Reader, folder: Path) -> int:
    """Return 1 if other weights are read without an error, 0 if the same, 2 for an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        with warnings.catch_warnings(action="ignore"):
            found = read(folder)
        same = found.keys() == WEIGHTS.keys() and all(
            torch.equal(found[name], WEIGHTS[name]) for name in WEIGHTS
        )
    except BaseException:  # whatever is raised, it is not silent
        return 2
    return 0 if same else 1


def draw_damage(found: dict[str, Counter[str]]) -> None:
    """Draw a bar for each format."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    names = list(found)[::-1]
    left = [0] * len(names)
    for kind in KINDS:
        widths = [found[name][kind] for name in names]
        axes.barh(names, widths, left=left, color=KIND_COLOURS[kind], label=kind)
        left = [one + width for one, width in zip(left, widths, strict=True)]
    for place, total in enumerate(left):
        axes.text(total + 6, place, str(total), va="center")
    axes.set(xlim=(0, TRIES * len(KINDS)), xlabel=f"silently wrong of {TRIES * len(KINDS)}")
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURES / "reliability_damage.png", dpi=120)


if __name__ == "__main__":
    main()
