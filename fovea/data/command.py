"""Look after data: ``fovea data check PATH``."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fovea.data.config import PILLOW_LIMIT

_CHECK = """\
Read every image below PATH once, as training would, and list those that are bad, huge, tiny or
repeated. PATH is a folder of images, of tar shards, or of both, or a single .tar file.
"""
_EPILOG = """\
Exit codes: 0 training would use all images, 1 some are left out, 2 nothing was checked.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except (ValueError, OSError) as error:
        print(f"fovea: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fovea data", description="Look after data.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser(
        "check", help="read every image once", description=_CHECK, epilog=_EPILOG
    )
    check.add_argument("path", type=Path, metavar="PATH")
    check.add_argument(
        "--workers", type=_from(0), default=0, metavar="N", help="processes that read (0)"
    )
    check.add_argument(
        "--min-side",
        type=_from(1),
        default=32,
        metavar="PX",
        help="images with a shorter side below this are tiny (32)",
    )
    check.add_argument(
        "--max-pixels",
        type=_from(1),
        default=PILLOW_LIMIT,
        metavar="N",
        help=f"images of more pixels are huge; data.max_pixels of training ({PILLOW_LIMIT})",
    )
    check.add_argument("--json", type=Path, metavar="FILE", help="write all that was found")
    check.set_defaults(run=_check)
    return parser


def _check(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from fovea.data.check import inspect_all, list_path  # torch is imported only now
    from fovea.data.report import Report

    path, file = arguments.path, arguments.json
    if file is not None and not file.parent.is_dir():
        raise ValueError(f"--json: there is no folder {file.parent}")
    listing = list_path(path)
    if not listing.entries and not listing.damaged:
        raise ValueError(f"{path}: there are no images")
    report = Report(
        str(path), arguments.min_side, arguments.max_pixels, listing.damaged, listing.ignored
    )
    findings = inspect_all(listing.entries, arguments.max_pixels, arguments.workers)
    bar = tqdm(findings, total=len(listing.entries), unit=" images", leave=False, disable=None)
    report.add(bar)
    print(report.text())
    if file is not None:
        file.write_text(json.dumps(report.to_tree(), indent=2) + "\n", encoding="utf-8")
    return 0 if report.all_good() else 1


def _from(least: int) -> Callable[[str], int]:
    """Read a whole number that is no less."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
        return int(text)

    return number
