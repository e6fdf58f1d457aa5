"""What a benchmark leaves behind: a page, its numbers, and what is printed."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from fovea.bench.limits import Verdict
from fovea.bench.machine import describe
from fovea.bench.tables import Table, limit_table

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_WIDTH = 100  # columns


def save(
    folder: Path,
    name: str,
    title: str,
    tables: Sequence[Table],
    verdicts: Sequence[Verdict],
    results: "DataclassInstance",
    facts: dict[str, str],
) -> str:
    """Write NAME.md and NAME.json to a folder; return what to print.

    The page shows NAME.png where that lies beside it, and opens with ``facts`` about the run.
    """
    machine = {**describe(), **facts}
    shown = [*tables, *([limit_table(verdicts)] if verdicts else [])]
    opening = "\n".join(f"- {key}: {value}" for key, value in machine.items())
    picture = [f"![{title}]({name}.png)"] if (folder / f"{name}.png").is_file() else []
    parts = [f"# {title}", opening, *picture, *(one.markdown() for one in shown)]
    (folder / f"{name}.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    limits = [{**asdict(one), "holds": one.holds} for one in verdicts]
    tree = {"machine": machine, "results": asdict(results), "limits": limits}
    (folder / f"{name}.json").write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
    where = f"{machine['processor']}; {machine['date']}"
    noted = [fill(f"{key}: {value}", _WIDTH) for key, value in facts.items()]
    text = "\n\n".join(["\n".join([title, where, *noted]), *(one.text() for one in shown)])
    saved = ", ".join(file.name for file in sorted(folder.glob(f"{name}.*")))
    return f"{text}\n\nsaved in {folder}: {saved}"
