"""The report of the benchmark of inference."""

from statistics import median

from fovea.bench.names import BARE, GLIMPSES, PLAIN, SPLIT
from fovea.bench.results import Inference, Point
from fovea.bench.tables import Table, number
from fovea.bench.timing import ratio

_TIME_NOTE = """\
Wall time with all cores; images are decoded, and the plain ViT's normalised too. Bare blocks are
the transformer blocks alone on the tokens of 8 glimpses, which no way to extract patches saves."""
_SPLIT_NOTE = """\
Wall time of each part of 8 glimpses by itself, as a share of the whole. The model's policy is
'random'; the last column is what a trained policy would take in its place."""
_FLOPS_NOTE = """\
In matrix products for one image, a multiply-add counted as two; 1e9 each."""


def inference_tables(run: Inference) -> list[Table]:
    """Set out all that was measured."""
    return [_times(run), _parts(run), _flops(run)]


def _times(run: Inference) -> Table:
    head = ["batch x image", "8 glimpses, ms", "/ bare blocks", "/ plain ViT-S", "rounds"]
    rows = [head]
    for point in run.points:
        beside = _beside_plain(point)
        milliseconds = number(1000 * median(point.seconds[GLIMPSES]))
        bare = number(ratio(point.seconds, GLIMPSES, BARE))
        rounds = min(len(samples) for samples in point.seconds.values())
        rows.append([_label(point), milliseconds, bare, beside, str(rounds)])
    title = f"8 glimpses of a ViT-S (threads: {run.threads})"
    return Table(title, rows, _TIME_NOTE)


def _parts(run: Inference) -> Table:
    rows = [["batch x image", *SPLIT]]
    for point in run.points:
        shares = [ratio(point.seconds, part, GLIMPSES) for part in SPLIT]
        rows.append([_label(point), *(f"{100 * share:.1f} %" for share in shares)])
    return Table("Where the time goes", rows, _SPLIT_NOTE)


def _flops(run: Inference) -> Table:
    rows = [["", *(f"{side} px" for side in run.plain_flops)]]
    rows.append(["8 glimpses", *([number(run.glimpses_flops / 1e9)] * len(run.plain_flops))])
    rows.append(["plain ViT-S", *(number(one / 1e9) for one in run.plain_flops.values())])
    shares = [run.glimpses_flops / one for one in run.plain_flops.values()]
    rows.append(["8 glimpses / plain ViT-S", *(number(share) for share in shares)])
    return Table("FLOPs", rows, _FLOPS_NOTE)


def _label(point: Point) -> str:
    return f"{point.batch} x {point.side} px"


def _beside_plain(point: Point) -> str:
    if point.skipped:
        return f"not measured ({point.skipped})"
    return number(ratio(point.seconds, GLIMPSES, PLAIN))
