"""Tables for the terminal and for a page."""

from collections.abc import Sequence
from dataclasses import dataclass

from fovea.bench.limits import Verdict


@dataclass(frozen=True)
class Table:
    """Rows of text under a title.

    Attributes:
        title: what the table shows.
        rows: of equal length; the first is the head, and the first of each its label.
        note: how to read it.
    """

    title: str
    rows: Sequence[Sequence[str]]
    note: str

    def text(self) -> str:
        """Set out for a terminal: labels to the left, numbers to the right."""
        widths = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0])]
                + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            ).rstrip()
            for row in self.rows
        ]
        return "\n".join([self.title, "-" * len(self.title), *lines, self.note])

    def markdown(self) -> str:
        """Set out for a page."""
        head, *rows = ["| " + " | ".join(row) + " |" for row in self.rows]
        rule = "|---|" + "---:|" * (len(self.rows[0]) - 1)
        return "\n".join([f"## {self.title}", "", self.note, "", head, rule, *rows])


def limit_table(verdicts: Sequence[Verdict]) -> Table:
    """Show each limit beside what was measured."""
    rows = [["", "limit", "measured", ""]]
    for one in verdicts:
        measured = "" if one.measured is None else number(one.measured)
        rows.append([one.name, f"{one.sign} {one.value:g}", measured, _judgement(one)])
    reasons = dict.fromkeys(one.reason for one in verdicts if one.reason)
    note = "They stand in fovea/bench/limits.py; --check fails where one is missed or not measured."
    return Table("Limits", rows, "\n".join([note, *(f"Not measured: {why}." for why in reasons)]))


def number(value: float) -> str:
    """Write a number in about three digits."""
    if value != 0 and abs(value) < 0.001:
        return f"{value:.1e}"
    places = 3 if abs(value) < 0.1 else 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{places}f}"


def _judgement(verdict: Verdict) -> str:
    if verdict.measured is None:
        return "not measured"
    return "ok" if verdict.holds else "MISSED"
