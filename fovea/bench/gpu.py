"""Check everything on a GPU, then measure it, in minutes: ``python -m fovea.bench gpu``.

Each part runs in a process of its own (see ``fovea.bench.parts``), and the page is written anew
whenever one ends. With ``--device cpu --quick`` the whole can be rehearsed on any machine.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fovea.bench import gpu_kernels, gpu_networks, gpu_runs, gpu_speed
from fovea.bench.device import check_device, describe_card
from fovea.bench.limits import Verdict
from fovea.bench.limits_gpu import EXTRACTION_CUDA, INFERENCE_CUDA, STEPS_CUDA
from fovea.bench.page import save
from fovea.bench.parts import Outcome, Part, Setting, run_parts
from fovea.bench.tables import Table, number

PARTS = (
    Part("kernels", gpu_kernels.kernels, 90),
    Part("networks", gpu_networks.networks, 120),
    Part("training", gpu_runs.training, 150),
    Part("processes", gpu_runs.processes, 150),
    Part("waits", gpu_networks.waits, 60),
    Part("compile", gpu_networks.compiled, 150),
    Part("xformers", gpu_networks.xformers, 60),
    Part("contract", gpu_networks.contract, 120),
    Part("tests", gpu_runs.suite, 120),
    Part("extraction", gpu_speed.extraction, 60, alone=True),
    Part("steps", gpu_speed.steps, 120, alone=True),
    Part("inference", gpu_speed.inference, 120, alone=True),
    Part("compiled step", gpu_speed.compiled_step, 120, alone=True),
)
SECONDS = 345
"""What all parts may take together."""

_NOT_YET = "not yet measured"
_PARTS_NOTE = """\
Each part runs in a process of its own. It fails where a check is missed, and where it dies or takes
too long."""
_CHECKS_NOTE = """\
Differences from slow references on the CPU, and what they may be. 'Relative' is the norm of a
difference over the norm of what is expected."""
_GOALS_NOTE = """\
They stand in fovea/bench/limits_gpu.py; no part fails where one is missed, but --check does."""


@dataclass(frozen=True)
class Run:
    """What became of the parts that have ended, by name."""

    outcomes: dict[str, Outcome]

    @property
    def failed(self) -> list[str]:
        """The names of the parts that failed."""
        return [name for name, outcome in self.outcomes.items() if outcome.is_failed]

    @property
    def goals(self) -> list[Verdict]:
        """All goals, in their order; those that were not reached have no number."""
        findings = [one for outcome in self.outcomes.values() for one in outcome.findings]
        judged = {goal.name: goal for finding in findings for goal in finding.goals}
        limits = [(one.name, one.sign, one.value) for group in _GOALS for one in group]
        return [judged.get(name, Verdict(name, sign, value, None, _NOT_YET))
                for name, sign, value in limits]  # fmt: skip


def check_and_measure(device: str, quick: bool, photos: Path | None, out: Path) -> Run:
    """Run all parts, print a line as each ends, and keep the page up to date.

    Raises:
        ValueError: there is no such device.
    """
    check_device(device)
    out.mkdir(parents=True, exist_ok=True)
    run = Run({})

    def tell(outcome: Outcome) -> None:
        run.outcomes[outcome.name] = outcome
        print(outcome, flush=True)
        write_page(run, device, quick, out)

    with tempfile.TemporaryDirectory(prefix="fovea-gpu-") as folder:
        setting = Setting(device, quick, Path(folder), photos, 1 if quick else os.cpu_count() or 1)
        run_parts(PARTS, setting, SECONDS, tell)
    return run


def write_page(run: Run, device: str, quick: bool, out: Path) -> None:
    """Write gpu.md and gpu.json; of a rehearsal on a CPU, gpu_on_cpu.md and gpu_on_cpu.json."""
    on_gpu = device == "cuda"
    facts = {"card": describe_card()} if on_gpu else {"card": "none: a rehearsal on a CPU"}
    if quick:
        facts["quick"] = "everything is small: no time here means anything"
    name = "gpu" if on_gpu else "gpu_on_cpu"
    save(out, name, "On a GPU", page_tables(run, quick), [], run, facts)


def page_tables(run: Run, quick: bool) -> list[Table]:
    """Set out what became of the parts, the checks, the goals, and all that was measured."""
    findings = [one for outcome in _ordered(run) for one in outcome.findings]
    goals = [] if quick else [_goals(run)]
    shown = [table for finding in findings for table in finding.tables]
    checks = [check for finding in findings for check in finding.checks]
    return [_parts(run), *goals, *([_checks(checks)] if checks else []), *shown]


def _ordered(run: Run) -> list[Outcome]:
    return [run.outcomes[part.name] for part in PARTS if part.name in run.outcomes]


def _parts(run: Run) -> Table:
    rows = [["part", "seconds", "result"]]
    for part in PARTS:
        outcome = run.outcomes.get(part.name)
        known = ["", _NOT_YET] if outcome is None else [f"{outcome.seconds:.0f}", outcome.result]
        rows.append([part.name, *(cell.replace("|", "/") for cell in known)])
    return Table("Parts", rows, _PARTS_NOTE)


def _goals(run: Run) -> Table:
    rows = [["", "goal", "measured", ""]]
    for goal in run.goals:
        asked = f"{goal.sign} {goal.value:g}"
        if goal.measured is None:
            rows.append([goal.name, asked, goal.reason, ""])
        else:
            rows.append([goal.name, asked, number(goal.measured), "" if goal.holds else "MISSED"])
    return Table("Goals", rows, _GOALS_NOTE)


def _checks(checks: list[Verdict]) -> Table:
    rows = [["", "seen", "allowed", ""]]
    for one in checks:
        seen = "" if one.measured is None else f"{one.measured:.2g}"
        rows.append([one.name, seen, f"{one.value:.2g}", "" if one.holds else "MISSED"])
    return Table("Checks", rows, _CHECKS_NOTE)


_GOALS = (EXTRACTION_CUDA, STEPS_CUDA, INFERENCE_CUDA)
