"""List runs: ``fovea runs [FOLDER]``: how far each is, its numbers, and what sets it apart."""

import argparse
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fovea.config import ConfigError, read_yaml
from fovea.recipe import STAGES
from fovea.run_table import table
from fovea.train import report

CONFIG, LOCK, ENVIRONMENT = "config.yaml", ".lock", "environment.json"
METRICS, LENGTH, RESULT = "metrics.jsonl", "length.json", "trained.pt"
EVALUATION = Path("eval") / "results.json"


@dataclass(frozen=True)
class Run:
    """What a run's folder tells.

    Attributes:
        name: path below the folder that was listed.
        state: ``running``, ``finished``, ``stopped``, ``failed`` or ``not begun``.
        reason: why it failed, or None.
        stage: that it is in, or the last.
        step: steps of the stage that were logged.
        steps: of the whole stage; None where it has not begun.
        started: when it was first started, in UTC; None where unknown.
        latest: when it last logged, in UTC; None where it never did.
        last: the numbers of the latest logged step.
        best: the greatest of each number that was measured beside training.
        evaluation: accuracies by ``python -m fovea.eval``, shares; empty where it was not run.
        differs: settings in which the listed runs differ, and what they are here.
    """

    name: str
    state: str
    reason: str | None
    stage: str
    step: int
    steps: int | None
    started: str | None
    latest: str | None
    last: dict[str, float]
    best: dict[str, float]
    evaluation: dict[str, float]
    differs: dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="fovea runs", description=__doc__)
    parser.add_argument("folder", nargs="?", default="runs", help="where to look; default: runs")
    parser.add_argument("--json", action="store_true", help="print all that is known, as JSON")
    arguments = parser.parse_args(argv)
    runs, problems = list_runs(Path(arguments.folder))
    report(problems)
    if not runs:
        return report([f"{arguments.folder}: there is no run in it (no folder with {CONFIG})"])
    print(json.dumps([asdict(run) for run in runs], indent=2) if arguments.json else table(runs))
    return 0


def list_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """Read all runs below a folder, by name; and a sentence for each that cannot be read."""
    found: list[tuple[Run, dict[str, Any]]] = []
    problems: list[str] = []
    for run_dir in _folders(folder):
        try:
            config = read_yaml(run_dir / CONFIG)
            found.append((_read(run_dir, str(run_dir.relative_to(folder)), config), config))
        except ConfigError as error:
            problems += error.lines
        except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
            reason = " ".join(str(error).split())  # whatever a file held that is not what we write
            problems.append(f"{run_dir}: cannot be read as a run: {reason}")
    differing = _differing([{**config, "run_dir": None} for _, config in found])
    runs = [
        Run(**{**vars(run), "differs": {key: values[i] for key, values in differing.items()}})
        for i, (run, _) in enumerate(found)
    ]
    return runs, problems


def _folders(folder: Path) -> Iterator[Path]:
    """Find the folders of runs, by name; none within another run, none that is hidden."""
    for where, below, files in os.walk(folder):
        if CONFIG in files:
            below.clear()
            yield Path(where)
        below[:] = sorted(name for name in below if not name.startswith("."))


def _read(run_dir: Path, name: str, config: Mapping[str, Any]) -> Run:
    stages = [stage for stage in STAGES if config.get(stage) is not None]
    if not stages:
        raise ValueError(f"{CONFIG} is not that of a run: it has no stage")
    done = [stage for stage in stages if (run_dir / stage / RESULT).is_file()]
    stage = next((one for one in stages if one not in done), stages[-1])
    length = _json(run_dir / stage / LENGTH).get("steps")
    line, last, best = _read_metrics(run_dir / stage / METRICS)
    _, _, measured = _read_metrics(run_dir / stages[0] / METRICS)
    if _is_locked(run_dir / LOCK):
        state = "running"
    elif len(done) == len(stages):
        state = "finished"
    elif "failed" in line:
        state = "failed"
    else:
        state = "stopped" if line or done else "not begun"
    starts = _json(run_dir / ENVIRONMENT).get("starts") or [{}]
    return Run(
        name=name,
        state=state,
        reason=str(line["failed"]) if state == "failed" else None,
        stage=stage,
        step=int(line["step"]) + ("failed" not in line) if line else 0,
        steps=length,
        started=starts[0].get("started"),
        latest=_changed(run_dir / stage / METRICS),
        last=last,
        best={**measured, **best},
        evaluation=_evaluation(_json(run_dir / EVALUATION)),
        differs={},
    )


def _read_metrics(file: Path) -> tuple[dict[str, Any], dict[str, float], dict[str, float]]:
    """Read the last line, the last line of numbers, and the greatest of what is measured beside.

    A line that a crash tore is passed over.
    """
    line: dict[str, Any] = {}
    last: dict[str, float] = {}
    best: dict[str, float] = {}
    if not file.is_file():
        return line, last, best
    texts = file.read_bytes().splitlines()
    for text in texts:
        if b'"online/' in text:
            for key, value in _line(text).items():
                if key.startswith("online/"):
                    best[key] = max(value, best.get(key, value))
    for text in reversed(texts):
        found = _line(text)
        line = line or found
        if "loss" in found:
            last = {key: value for key, value in found.items() if key != "step"}
            break
    return line, last, best


def _line(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("step"), int) else {}


def _evaluation(results: Mapping[str, Any]) -> dict[str, float]:
    """Take the accuracies out of what ``fovea.eval`` wrote."""
    gazes = results.get("gazes", {})
    numbers = {f"glimpses, {name}": one["accuracy"][-1] for name, one in gazes.items()}
    numbers |= {f"kNN, {name}": value for name, value in results.get("knn", {}).items()}
    return numbers | ({"ViT mode": results["vit"]} if "vit" in results else {})


def _json(file: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one where there is no such file.

    Raises:
        ValueError: it is damaged.
    """
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file.name} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file.name} is damaged: it is no JSON object")
    return found


def _is_locked(file: Path) -> bool:
    """Tell whether a process has the lock of a run."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _changed(file: Path) -> str | None:
    """Say when a file was last written."""
    if not file.is_file():
        return None
    return datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(timespec="seconds")


def _differing(trees: Sequence[Any], where: str = "") -> dict[str, list[Any]]:
    """Compare plain trees: the values of each key in which they differ, None where it is missing.

    A section that some lack is one difference, not one for each of its keys.
    """
    if all(tree == trees[0] for tree in trees):
        return {}
    if not all(isinstance(tree, Mapping) for tree in trees):
        shown = [tree.get("name", "given") if isinstance(tree, Mapping) else tree for tree in trees]
        return {where: shown}
    found: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for tree in trees for key in tree):
        found |= _differing([tree.get(key) for tree in trees], f"{where}.{key}".lstrip("."))
    return found
