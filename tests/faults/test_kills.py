"""Runs killed at random moments: no bit differs from an uninterrupted run."""

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.trainings import (
    STAGES,
    Nursery,
    assert_same_weights,
    children,
    kill_at_random,
    logged,
)

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1)
CODES = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 75, signal.SIGUSR1: 75}
ALL = {"pretrain": 50, "probe": 30, "policy": 30}


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as started:
        yield started


def assert_survives(
    nursery: Nursery, folder: Path, words: list[str], kills: list[tuple[str, int, int]]
) -> None:
    """Kill one run again and again; compare every step that it ever made with another's."""
    code, printed = nursery.train(folder / "whole", *words).finish()
    assert code == 0, printed
    expected = {stage: logged(folder / "whole", stage) for stage in STAGES}
    codes = []
    for code, printed in kill_at_random(nursery, folder / "run", words, kills):
        codes.append(code)
        assert "Traceback" not in printed, printed
        for stage in STAGES:  # steps that will be made again are compared now, too
            made = logged(folder / "run", stage)
            assert made == expected[stage][: len(made)]
    assert codes == [*(CODES[signal.Signals(number)] for _, _, number in kills), 0]
    for stage in STAGES:
        assert logged(folder / "run", stage) == expected[stage]
    assert_same_weights(folder / "run", folder / "whole")


@pytest.mark.fault
def test_twenty_kills_of_a_run_of_500_steps_change_no_bit(nursery: Nursery, tmp_path: Path) -> None:
    draws = random.Random(1)
    steps = sorted(draws.sample(range(480), 20))
    kills = [("pretrain", step, draws.choice(SIGNALS)) for step in steps]
    words = ["pretrain.steps=500", "probe=null", "policy=null"]
    assert_survives(nursery, tmp_path, words, kills)
    expected = logged(tmp_path / "whole", "pretrain")
    assert [line["step"] for line in expected if "loss" in line] == list(range(500))
    assert {"loss", "gradient_norm", "lr"} <= expected[0].keys()


@pytest.mark.fault
@pytest.mark.parametrize(
    "setting", ["workers=0", "workers=1", "workers=2", "threads=2", "precision=bfloat16"]
)
def test_kills_in_each_stage_change_no_bit(setting: str, nursery: Nursery, tmp_path: Path) -> None:
    draws = random.Random(setting)
    words = [setting, *(f"{stage}.steps={steps}" for stage, steps in ALL.items())]
    moments = [("pretrain", 3), ("pretrain", 30), ("probe", 10), ("policy", 0), ("policy", 15)]
    kills = [(stage, step + draws.randrange(8), draws.choice(SIGNALS)) for stage, step in moments]
    assert_survives(nursery, tmp_path, words, kills)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_run_with_workers_that_is_told_to_stop_saves_at_once_and_leaves_no_process(
    number: signal.Signals, nursery: Nursery, tmp_path: Path
) -> None:
    training = nursery.train(tmp_path / "run", "workers=2", "pretrain.steps=10000")
    assert training.reach(3)
    workers = children(training.pid)
    assert len(workers) >= 2
    training.send(number)
    code, printed = training.finish(seconds=10)
    assert code == 75
    assert f"stopped by {number.name}" in printed
    made = logged(tmp_path / "run", "pretrain")
    assert (tmp_path / f"run/pretrain/checkpoint-{len(made):08d}.pt").is_file()
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
