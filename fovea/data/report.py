"""What ``fovea data check`` found: counted, for people and as JSON."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from fovea.data.check import Finding

_SHOWN = 20  # names of each kind, and classes, that are listed on screen


@dataclass
class Report:
    """Counts of images by what is wrong with them, and what there is to know of the good ones.

    Attributes:
        path: what was read.
        min_side: images whose shorter side has fewer pixels are tiny.
        max_pixels: images of more are huge.
        damaged: a sentence for each tar that cannot be read to its end.
        ignored: how many files of other kinds there are, by how their names end.
    """

    path: str
    min_side: int
    max_pixels: int
    damaged: list[str]
    ignored: dict[str, int]
    images: int = 0
    bad: list[Finding] = field(default_factory=list)
    huge: list[Finding] = field(default_factory=list)
    tiny: list[Finding] = field(default_factory=list)
    sides: list[int] = field(default_factory=list)
    pixels: list[int] = field(default_factory=list)
    formats: Counter[str] = field(default_factory=Counter)
    groups: Counter[str] = field(default_factory=Counter)
    same: dict[bytes, list[str]] = field(default_factory=dict)

    def add(self, findings: Iterable[Finding]) -> None:
        """Count findings."""
        for one in findings:
            self.images += 1
            if one.fault is not None:
                (self.huge if one.too_large else self.bad).append(one)
                continue
            side = min(one.height, one.width)
            if side < self.min_side:
                self.tiny.append(one)
            self.sides.append(side)
            self.pixels.append(one.height * one.width)
            self.formats[one.format] += 1
            self.groups[one.group] += 1
            self.same.setdefault(one.digest, []).append(one.name)

    def all_good(self) -> bool:
        """Say whether training would use all images."""
        return not (self.bad or self.huge or self.damaged)

    def duplicates(self) -> list[list[str]]:
        """List the names of images with the same content, group by group."""
        return [names for names in self.same.values() if len(names) > 1]

    def to_tree(self) -> dict[str, Any]:
        """Return everything, with all names, as JSON takes it."""
        return {
            "path": self.path,
            "images": self.images,
            "good": len(self.sides),
            "bad": [{"name": one.name, "reason": one.fault} for one in self.bad],
            "huge": [{"name": one.name, "reason": one.fault} for one in self.huge],
            "damaged": self.damaged,
            "tiny": [
                {"name": one.name, "height": one.height, "width": one.width} for one in self.tiny
            ],
            "duplicates": self.duplicates(),
            "ignored": self.ignored,
            "min_side": self.min_side,
            "max_pixels": self.max_pixels,
            "shorter_side": _spread(self.sides),
            "pixels": _spread(self.pixels),
            "formats": dict(self.formats.most_common()),
            "classes": dict(sorted(self.groups.items())),
        }

    def text(self) -> str:
        """Set out for a terminal: numbers first, then names, no more than 20 of each kind."""
        return "\n".join([f"{self.path}: {self.images:,} images", *self._counts(), *self._names()])

    def _counts(self) -> list[str]:
        repeated = sum(len(names) - 1 for names in self.duplicates())
        left_out = "left out of training"
        rows = [
            ("good", len(self.sides), ""),
            ("bad", len(self.bad), left_out),
            ("huge", len(self.huge), f"over {self.max_pixels:,} pixels; {left_out}"),
            ("tiny", len(self.tiny), f"shorter side below {self.min_side} pixels"),
            ("repeated", repeated, "same content as another"),
            ("ignored", sum(self.ignored.values()), f"other files: {_listed(self.ignored)}"),
            ("tars damaged", len(self.damaged), "training does not start"),
        ]
        counts = [f"  {name:12} {count:9,}  {why}" for name, count, why in rows if count]
        facts = {
            "shorter side": _range(self.sides),
            "pixels": _range(self.pixels),
            "formats": _listed(dict(self.formats.most_common())),
            "classes": _classes(self.groups),
        }
        lines = [f"  {name:12}  {fact}".rstrip() for name, fact in facts.items() if fact]
        return [line.rstrip() for line in counts] + lines

    def _names(self) -> list[str]:
        sizes = [f"{one.name}: {one.width} x {one.height} pixels" for one in self.tiny]
        lists = {
            "bad": [one.fault or "" for one in self.bad],
            "huge": [one.fault or "" for one in self.huge],
            "tars damaged": self.damaged,
            "tiny": sizes,
            "repeated": [" = ".join(names) for names in self.duplicates()],
        }
        return [line for title, names in lists.items() for line in _shortened(title, names)]


def _shortened(title: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    lines = [f"\n{title}", *(f"  {name}" for name in names[:_SHOWN])]
    rest = len(names) - _SHOWN
    return lines + ([f"  and {rest:,} more; --json FILE lists all"] if rest > 0 else [])


def _spread(values: Sequence[int]) -> dict[str, float] | None:
    if not values:
        return None
    return {"min": min(values), "median": median(values), "max": max(values)}


def _range(values: Sequence[int]) -> str:
    if not values:
        return ""
    return f"{min(values):,} to {max(values):,}, median {median(values):,.0f}"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _classes(groups: Counter[str]) -> str:
    """Count the images of each class; nothing for a flat folder."""
    if set(groups) <= {""}:
        return ""
    named = {name or "(none)": count for name, count in sorted(groups.items())}
    if len(named) <= _SHOWN:
        return f"{len(named)}: {_listed(named)}"
    return f"{len(named):,} of {_range(list(named.values()))} images"
