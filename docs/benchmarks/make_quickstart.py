"""Write quickstart.md from evaluated runs: python docs/benchmarks/make_quickstart.py RUN_DIR ..."""

import json
import os
import platform
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

Results = dict[str, Any]
Number = Callable[[Results], float]

_HEAD = """\
# What the quick start reaches

Written by `python docs/benchmarks/make_quickstart.py RUN_DIR ...` from what these commands
measured, one run per seed, on {images} test images. Settings were chosen on the val split; a first
result on the test split did send us back to the policy's start, as the [log](../log.md) tells:

```text
make quickstart
make quickstart RUN=runs/quickstart-seed1 ARGS=seed=1
```

{date}, {machine}, {cores} cores, no GPU. Accuracies in percent; the standard error of one, from the
number of images, is about {error:.1f} points.

## Against what it should show

"""

_NOTES = """\

Where a gaze is drawn, numbers are means over gaze seeds. A garment fills its whole scene here, so
every gaze is on the object; the oracle's are in the middle half of its box. The policy's lead over
random gazes is for the most part that it looks near the centre: compare it with the centre Gaussian
(standard deviation 0.15), which knows nothing of the image. Its first gaze cannot depend on the
image at all, since nothing was seen yet.

Patches of fixed pixels are cut as a plain ViT cuts them, and placed as its interpolated positions
place them. Told also how small a share of the image each shows, which a plain ViT is not, the same
weights lose less in one run and more in another. Neither is a plain ViT that was trained on fixed
pixels: that comparison is still to be made.

Where the policy's lead is short of its goal, it is: the better the backbone became, the less there
was to gain from where one looks. With the first model of the [log](../log.md), pretrained for half
as long, the lead at glimpse 1 was 6.8 points.
"""


def main(run_dirs: list[str]) -> None:
    """Read the results and write the page beside this script."""
    runs = [json.loads((Path(one) / "eval" / "results.json").read_text()) for one in run_dirs]
    images = runs[0]["images"]
    head = _HEAD.format(
        images=images,
        date=date.today(),
        machine=_processor(),
        cores=os.cpu_count(),
        error=100 * (0.7 * 0.3 / images) ** 0.5,
    )
    text = head + _claims(runs) + "\n## Accuracy after each glimpse\n\n" + _steps(runs)
    text += "\n## Enlarged images\n\n" + _enlarged(runs) + _NOTES
    Path(__file__).with_name("quickstart.md").write_text(text, encoding="utf-8")


def _at(way: str, step: int) -> Number:
    return lambda run: 100 * run["gazes"][way]["accuracy"][step - 1]


def _untrained(run: Results) -> float:
    return 100 * float(run["random_init"]["random"]["accuracy"][-1])


def _fixed_pixels_lose(run: Results) -> float:
    first, fourth = run["enlarge"]["1"], run["enlarge"]["4"]
    return 100 * float(first["fixed_pixels"] - fourth["fixed_pixels"])


def _below_uniform(run: Results) -> float:
    return float(run["pretraining"]["log_prototypes"] - run["pretraining"]["cross_entropy"])


def _change(run: Results) -> float:
    """Return the largest change of accuracy by enlarging, of glimpses and ViT mode."""
    ways = ("glimpses", "vit")
    return max(
        100 * abs(one[way] - run["enlarge"]["1"][way])
        for one in run["enlarge"].values()
        for way in ways
    )


def _claims(runs: list[Results]) -> str:
    """Set each number beside its goal."""
    random1, random8 = _at("random", 1), _at("random", 8)
    policy1, policy8 = _at("policy", 1), _at("policy", 8)
    rows: list[tuple[str, str, float, Number]] = [
        ("cross-entropy below ln(prototypes), nats", ">=", 1.0, _below_uniform),
        ("collapse warnings", "<=", 0, lambda run: len(run["pretraining"]["warnings"])),
        ("8 random glimpses", ">=", 62, random8),
        ("... above the untrained network", ">=", 20, lambda run: random8(run) - _untrained(run)),
        ("last glimpse above the first", ">=", 5, lambda run: random8(run) - random1(run)),
        ("ViT mode", ">=", 74, lambda run: 100 * run["vit"]),
        ("policy above random, glimpse 1", ">=", 4, lambda run: policy1(run) - random1(run)),
        ("policy above random, glimpse 8", ">=", 1, lambda run: policy8(run) - random8(run)),
        ("largest change by enlarging 2x, 4x, 8x", "<=", 2.5, _change),
        ("loss of fixed-pixel patches at 4x", ">=", 20, _fixed_pixels_lose),
    ]
    lines = ["| | goal | " + " | ".join(f"seed {run['seed']}" for run in runs) + " | met |"]
    lines.append("|---|---|" + "---|" * (len(runs) + 1))
    for name, sign, goal, number in rows:
        values = [number(run) for run in runs]
        met = all(value >= goal if sign == ">=" else value <= goal for value in values)
        shown = " | ".join(f"{value:.1f}" for value in values)
        lines.append(f"| {name} | {sign} {goal} | {shown} | {'yes' if met else 'no'} |")
    return "\n".join(lines) + "\n"


def _steps(runs: list[Results]) -> str:
    steps = range(len(runs[0]["gazes"]["random"]["accuracy"]))
    lines = ["| gaze | seed | " + " | ".join(str(step + 1) for step in steps) + " |"]
    lines.append("|---|---|" + "---|" * len(steps))
    for run in runs:
        ways = {**run["gazes"], "random, network untrained": run["random_init"]["random"]}
        for name, one in ways.items():
            values = " | ".join(f"{100 * value:.1f}" for value in one["accuracy"])
            lines.append(f"| {name} | {run['seed']} | {values} |")
    whole = [
        f"seed {run['seed']}: ViT mode {100 * run['vit']:.1f} (untrained "
        f"{100 * run['random_init']['vit']:.1f}), kNN {100 * run['knn']['vit']:.1f} in ViT mode "
        f"and {100 * run['knn']['glimpses']:.1f} after random glimpses"
        for run in runs
    ]
    return "\n".join(lines) + "\n\n" + ";\n".join(whole) + ".\n"


def _enlarged(runs: list[Results]) -> str:
    factors = list(runs[0]["enlarge"])
    lines = ["| | seed | " + " | ".join(f"{factor}x" for factor in factors) + " |"]
    lines.append("|---|---|" + "---|" * len(factors))
    names = {
        "glimpses": "random glimpses",
        "vit": "ViT mode",
        "fixed_pixels": "patches of fixed pixels",
        "fixed_pixels_zoom_known": "... told their zoom",
    }
    for run in runs:
        for key, name in names.items():
            values = " | ".join(f"{100 * run['enlarge'][one][key]:.1f}" for one in factors)
            lines.append(f"| {name} | {run['seed']} | {values} |")
    return "\n".join(lines) + "\n"


def _processor() -> str:
    """Name the processor, where the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


if __name__ == "__main__":
    main(sys.argv[1:])
