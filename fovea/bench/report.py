"""The report of the benchmark of extraction: tables, and the files they are saved to."""

from collections.abc import Callable
from statistics import median

from fovea.bench.names import BLOCKS, COPY, CV2_TABLE, DECODE, INTEGRAL, NAIVE, TORCH_TABLE
from fovea.bench.results import Extraction, Side, break_even, growth_key
from fovea.bench.tables import Table, number
from fovea.bench.timing import Samples, ratio

_BUILD_NOTE = """\
Thread CPU time per image, as a share of decoding the same pixels from JPEG (Pillow, quality 90,
4:2:0). 'integral' chooses its table itself. An extractor's build is prepare(image), as one calls
it; 'float tensor' and 'PIL.Image' are what rivals need."""
_GLIMPSE_NOTE = """\
Thread CPU time of 30 windows of 16 x 16 pixels, in glimpses of 'integral'. Before each, a ViT-S's
blocks ran on a glimpse's tokens, so that caches are as in a model. All are told their windows
beforehand; rivals cut them off at the image's border."""
_GROWTH_NOTE = """\
All sizes took turns; here finding the windows of a gaze is included, as in a model. 30 windows are
one glimpse, 256 are a ViT's grid over the whole image."""
_ERROR_NOTE = """\
Root mean square difference from the float64 area average, in grey levels (1/255); last, the
largest over all sizes, in grey levels and in 0..1. Ours on all windows, those partly outside the
image too; rivals on windows inside it, since they treat borders in ways of their own."""
_EVEN_NOTE = """\
From which glimpse at an image on 'integral' is ahead, its table and what the rival prepares
included. * marks a rival whose rms error is over one grey level at that size: it is not the same
picture."""
_COPY_NOTE = """\
Bytes of image read and of table written per second, over those of np.copyto (a byte copied is one
read and one written) into a reused buffer."""


def extraction_tables(run: Extraction) -> list[Table]:
    """Set out all that was measured."""
    return [
        _builds(run),
        _bandwidth(run),
        _glimpses(run),
        _growth(run),
        _errors(run),
        _break_even(run),
    ]


def extraction_facts(run: Extraction) -> dict[str, str]:
    """Say what was measured: the default back ends, the photographs, what could not be had."""
    left_out = "; ".join(f"{name} ({reason})" for name, reason in run.missing.items())
    return {
        "integral here": run.chosen,
        "photographs": ", ".join(run.photos),
        "not measured": left_out or "nothing",
    }


def _builds(run: Extraction) -> Table:
    rows = [_head(run, "rounds"), _milliseconds(run, DECODE, lambda side: side.builds)]
    for name in run.sides[0].builds:
        if name not in (DECODE, COPY):
            samples = [side.builds for side in run.sides]
            rows.append([name, *_ratios(samples, name, DECODE), _rounds(samples, name)])
    return Table("Build / JPEG decode", rows, _BUILD_NOTE)


def _bandwidth(run: Extraction) -> Table:
    rows = [_head(run)]
    for name in (INTEGRAL, CV2_TABLE, TORCH_TABLE, NAIVE):
        if name in run.sides[0].builds:
            shares = [ratio(side.builds, COPY, name) for side in run.sides]
            rows.append([name, *(f"{100 * share:.0f} %" for share in shares)])
    return Table("Share of copy bandwidth that a build reaches", rows, _COPY_NOTE)


def _glimpses(run: Extraction) -> Table:
    rows = [_head(run, "rounds"), _milliseconds(run, INTEGRAL, lambda side: side.glimpses)]
    samples = [side.glimpses for side in run.sides]
    for name in run.extractors[1:] + run.rivals:
        rows.append([name, *_ratios(samples, name, INTEGRAL), _rounds(samples, name)])
    return Table("Glimpse / glimpse of integral", rows, _GLIMPSE_NOTE)


def _growth(run: Extraction) -> Table:
    smallest = run.sides[0].side
    rows = [_head(run)]
    for windows in (30, 256):
        first = growth_key(windows, smallest)
        keys = [growth_key(windows, side.side) for side in run.sides]
        grown = [number(ratio(run.growth, key, first)) for key in keys]
        rows.append([f"{windows} windows, / at {smallest} px", *grown])
    shares = [ratio(run.growth, growth_key(30, side.side), BLOCKS) for side in run.sides]
    rows.append([f"30 windows, / {BLOCKS}", *(number(share) for share in shares)])
    return Table("Growth of a glimpse of integral", rows, _GROWTH_NOTE)


def _errors(run: Extraction) -> Table:
    rows = [_head(run, "max", "max, 0..1")]
    for name in run.sides[0].errors:
        errors = [side.errors[name] for side in run.sides]
        largest = max(error.largest for error in errors)
        rms = [number(255 * error.rms) for error in errors]
        rows.append([name, *rms, number(255 * largest), number(largest)])
    return Table("Error, grey levels", rows, _ERROR_NOTE)


def _break_even(run: Extraction) -> Table:
    rows = [_head(run)]
    for name in run.rivals:
        cells = []
        for side in run.sides:
            glimpse = break_even(run.costs(INTEGRAL, side), run.costs(name, side))
            cells.append(glimpse if name in run.exact_rivals(side) else f"{glimpse} *")
        rows.append([name, *cells])
    return Table("Break-even, in glimpses at one image", rows, _EVEN_NOTE)


def _head(run: Extraction, *more: str) -> list[str]:
    return ["", *(f"{side.side} px" for side in run.sides), *more]


def _milliseconds(run: Extraction, name: str, of: Callable[[Side], Samples]) -> list[str]:
    samples = [of(side) for side in run.sides]
    times = [number(1000 * median(one[name])) for one in samples]
    return [f"{name}, ms", *times, _rounds(samples, name)]


def _ratios(samples: list[Samples], of: str, to: str) -> list[str]:
    return [number(ratio(one, of, to)) for one in samples]


def _rounds(samples: list[Samples], name: str) -> str:
    """Say in how many rounds a task was timed at the size where it had fewest."""
    return str(min(len(one[name]) for one in samples))
