"""What to say of a name that nobody knows."""

from collections.abc import Sequence
from difflib import get_close_matches


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """Say that there is no such name, which is nearest, and which there are."""
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"no {what} is called '{name}'; {hint}known are {', '.join(known) or 'none'}"
