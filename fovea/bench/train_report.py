"""The report of the benchmark of training."""

from statistics import median

from fovea.bench.names import (
    DATA,
    DINO,
    MATMUL,
    OURS,
    OURS_FULL,
    OURS_LARGE,
    OURS_READY,
    PARTS,
)
from fovea.bench.results import Files, Training
from fovea.bench.tables import Table, number
from fovea.bench.timing import ratio

_STEP_NOTE = """\
One optimiser step, data at hand. 'seq2global' begins with decoded images: tables, reading and
augmentation are in it. 'views ready' begins, as DINO does here, with tensors that networks take.
Utilisation is FLOP/s over those of a large matrix product of the same precision, in the same
rounds. The last column is img/s x FLOPs of an image, over DINO's."""
_FILES_NOTE = """\
Training steps over JPEG files, as they come from worker processes. DINO's images are decoded by
Pillow, cropped, resized and augmented there; ours are decoded there, at the size that is needed."""
_SPLIT_NOTE = """\
Of a step over files, in ms and as shares; median of the rounds. 'Heads and loss' is all of the
forward pass but views and backbones. 'Other' is in no part."""
_CHANGES_NOTE = """\
'seq2global' from decoded images, with one thing done otherwise: its time and its memory, over
those of the step as it is."""
_PIPELINE_NOTE = """\
Thread CPU time of an image on one thread, batch by batch; for ours all views of teacher and
student, for DINO 2 global and its local crops."""


def training_tables(run: Training) -> list[Table]:
    """Set out all that was measured."""
    splits = [_split(files) for files in run.files]
    return [steps_table(run), _files(run), *splits, changes_table(run), _pipeline(run)]


def training_facts(run: Training) -> dict[str, str]:
    """Say what was trained, on what, and what could not be measured."""
    threads = f"{run.threads} threads" if run.device == "cpu" else run.device
    sides = " and ".join(str(files.side) for files in run.files)
    left_out = "; ".join(f"{name} ({reason})" for name, reason in run.missing.items())
    return {
        "trained": run.recipe,
        "batch": f"{run.batch} images, {run.precision}, {threads}",
        "data": f"square JPEG files of {sides} px, {run.workers} workers",
        "photographs": ", ".join(run.photos),
        "not measured": left_out or "nothing",
    }


def steps_table(run: Training) -> Table:
    """Compare steps, of those that were measured."""
    head = ["", "s", "img/s", "GFLOPs/img", "GFLOP/s", "utilisation", "peak memory, MB", "/ DINO"]
    rows = [head]
    for name in (OURS, OURS_READY, OURS_LARGE, DINO):
        if name not in run.steps:
            continue
        seconds, flops = median(run.steps[name]), run.flops_of(name)
        speed = run.images_of(name) / seconds
        memory = f"{run.memory[name] / 1e6:.0f}" if name in run.memory else ""
        rows.append(
            [
                name,
                number(seconds),
                number(speed),
                number(flops / 1e9),
                number(flops * speed / 1e9),
                f"{100 * run.utilisation(name):.0f} %",
                memory,
                number(_beside_dino(run, run.steps, name)) if DINO in run.steps else "",
            ]
        )
    peak = number(run.matmul_flops / median(run.steps[MATMUL]) / 1e9)
    rows.append([MATMUL, "", "", "", peak, "", "", ""])
    return Table(f"A step of {run.batch} images, {run.precision}", rows, _STEP_NOTE)


def _files(run: Training) -> Table:
    rows = [["", "img/s", "waiting for data", "img/s x FLOPs / DINO", "rounds"]]
    for files in run.files:
        for name, seconds in files.seconds.items():
            speed = number(run.batch / median(seconds))
            wait = f"{100 * files.share(name, DATA):.1f} %"
            beside = number(_beside_dino(run, files.seconds, name))
            rows.append([f"{name}, {files.side} px", speed, wait, beside, str(len(seconds))])
    return Table("From JPEG files", rows, _FILES_NOTE)


def _split(files: Files) -> Table:
    rows = [["", *(cell for name in (OURS, DINO) for cell in (f"{name}, ms", "%"))]]
    whole = {name: median(files.seconds[name]) for name in (OURS, DINO)}
    for part in PARTS:
        row = [part]
        for name in (OURS, DINO):
            share = files.share(name, part)
            row += [f"{1000 * share * whole[name]:.1f}", f"{100 * share:.1f}"]
        rows.append(row)
    total = [f"{1000 * whole[name]:.1f}" for name in (OURS, DINO)]
    rows.append(["step", total[0], "", total[1], ""])
    return Table(f"Where the time goes, files of {files.side} px", rows, _SPLIT_NOTE)


def changes_table(run: Training) -> Table:
    """Compare our step with itself, one thing done otherwise."""
    rows = [["", "time", "memory"]]
    for name in run.steps:
        if name not in (MATMUL, OURS, OURS_READY, OURS_LARGE, DINO):
            known = name in run.memory and OURS in run.memory
            memory = number(run.memory[name] / run.memory[OURS]) if known else ""
            rows.append([name, number(ratio(run.steps, name, OURS)), memory])
    for largest in run.files[-1:]:
        decoding = number(ratio(largest.seconds, OURS_FULL, OURS))
        rows.append([f"data.decode=full, from files of {largest.side} px", decoding, ""])
    return Table("One thing done otherwise", rows, _CHANGES_NOTE)


def _pipeline(run: Training) -> Table:
    rows = [["", "ms"]]
    rows += [[name, number(1000 * median(times))] for name, times in run.pipeline.items()]
    return Table("Before the network", rows, _PIPELINE_NOTE)


def _beside_dino(run: Training, samples: dict[str, list[float]], name: str) -> float:
    return 1.0 if name == DINO else run.at_equal_flops(samples, name)
