"""Runs set out as text: a line for each, then the settings in which they differ."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fovea.runs import Run

_MEASURED = {"online/knn_glimpses": "best kNN", "online/knn_vit": "best kNN ViT"}
_EVALUATED = {
    "glimpses, random": "eval random",
    "glimpses, policy": "eval policy",
    "ViT mode": "eval ViT",
}


def table(runs: Sequence["Run"]) -> str:
    """Set out runs as text; columns that all runs lack are left out."""
    rows = [_row(run) for run in runs]
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    lines = _aligned([columns, *([row[name] for name in columns] for row in rows)])
    failed = [f"{run.name}: {run.reason}" for run in runs if run.reason]
    if failed:
        lines += ["", *failed]
    if runs[0].differs:
        lines += ["", "they differ in", *(f"  {line}" for line in _differences(runs))]
    return "\n".join(lines)


def _row(run: "Run") -> dict[str, str]:
    steps = "?" if run.steps is None else run.steps
    loss = run.last.get("loss")
    row = {
        "run": run.name,
        "state": run.state,
        "stage": run.stage,
        "step": "" if run.state == "not begun" else f"{run.step}/{steps}",
        "last logged": _local(run.latest),
        "loss": "" if loss is None else f"{loss:.3f}",
    }
    for key, title in _MEASURED.items():
        row[title] = f"{run.best[key]:.1%}" if key in run.best else ""
    for key, title in _EVALUATED.items():
        row[title] = f"{run.evaluation[key]:.1%}" if key in run.evaluation else ""
    return row


def _differences(runs: Sequence["Run"]) -> list[str]:
    """Write a line for each setting: its values, each with the runs that have it."""
    lines = []
    for key in runs[0].differs:
        values: dict[str, list[str]] = {}
        for run in runs:
            values.setdefault(_plain(run.differs[key]), []).append(run.name)
        shown = "; ".join(f"{value} ({', '.join(names)})" for value, names in values.items())
        lines.append(f"{key}: {shown}")
    return lines


def _plain(value: Any) -> str:
    """Write a value; components by their names."""
    if isinstance(value, list):
        return "[" + ", ".join(_plain(one) for one in value) + "]"
    if isinstance(value, dict):
        return str(value.get("name", value))
    return "none" if value is None else str(value)


def _local(time: str | None) -> str:
    """Say a time on this machine's clock, to the minute."""
    if time is None:
        return ""
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M")


def _aligned(rows: list[list[str]]) -> list[str]:
    """Set out rows in columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
