"""Processes that train together: one killed, all told to stop, or another number of them."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults.trainings import (
    ENVIRONMENT,
    TINY,
    assert_same_weights,
    children,
    last_step,
    logged,
)

SHORT = ["probe=null", "policy=null"]


class Torchrun:
    """Two processes of our command under torchrun, which starts them again up to 10 times."""

    def __init__(self, folder: Path, *words: str, processes: int = 2):
        self.folder = folder
        self.output = folder.with_name(f"{folder.name}.{time.monotonic_ns()}.txt")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={processes}", "--max-restarts=10", "--monitor-interval=0.1"]
        command += ["--signals-to-handle=SIGTERM,SIGINT,SIGUSR1", "-m", "fovea.train"]
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*command, "quickstart", f"run_dir={folder}", *TINY, *words],
                stdout=output,
                stderr=output,
                env={**ENVIRONMENT, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
            )

    def ranks(self) -> list[int]:
        """List the processes that train now."""
        return children(self.process.pid)

    def reach(self, step: int, seconds: float = 120) -> None:
        """Wait until a step of the first stage was logged."""
        end = time.monotonic() + seconds
        while last_step(self.folder, "pretrain") < step:
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < end, self.output.read_text()
            time.sleep(0.005)

    def finish(self, seconds: float = 200) -> tuple[int, str]:
        """Wait for the end; return the exit code and what was printed."""
        code = self.process.wait(timeout=seconds)
        return code, self.output.read_text()


@pytest.mark.fault
def test_ten_kills_of_one_of_two_processes_change_no_bit(tmp_path: Path) -> None:
    steps = 200
    words = [*SHORT, f"pretrain.steps={steps}"]
    code, printed = Torchrun(tmp_path / "whole", *words).finish()
    assert code == 0, printed
    run, draws = Torchrun(tmp_path / "run", *words), random.Random(0)
    for number in range(10):
        run.reach(10 + number * (steps - 20) // 10)
        time.sleep(draws.random() * 0.05)
        before = run.ranks()
        os.kill(draws.choice(before), signal.SIGKILL)
        end = time.monotonic() + 60
        while len(set(run.ranks()) - set(before)) < 2:  # they start again
            assert run.process.poll() is None, run.output.read_text()
            assert time.monotonic() < end
            time.sleep(0.01)
    code, printed = run.finish()
    assert code == 0, printed
    assert printed.count("pretrain: resumed at step") == 10
    assert logged(tmp_path / "run", "pretrain") == logged(tmp_path / "whole", "pretrain")
    assert_same_weights(tmp_path / "run", tmp_path / "whole")


@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_two_processes_that_are_told_to_stop_save_at_once_and_leave_no_process(
    number: signal.Signals, tmp_path: Path
) -> None:
    run = Torchrun(tmp_path / "run", *SHORT, "pretrain.steps=10000", "workers=1")
    run.reach(5)
    ranks = run.ranks()
    workers = [worker for rank in ranks for worker in children(rank)]
    assert (len(ranks), len(workers)) == (2, 2)
    began = time.monotonic()
    run.process.send_signal(number)
    code, printed = run.finish(60)
    assert time.monotonic() - began < 10
    assert code != 0  # torchrun has one of its own
    assert f"stopped by {number.name}" in printed
    made = logged(tmp_path / "run", "pretrain")
    assert (tmp_path / f"run/pretrain/checkpoint-{len(made):08d}.pt").is_file()
    assert not [pid for pid in ranks + workers if Path(f"/proc/{pid}").exists()]


@pytest.mark.fault
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes_as_it_would_have(
    first: int, then: int, tmp_path: Path
) -> None:
    words = [*SHORT, "pretrain.steps=40", "checkpoint_every=20"]
    whole = Torchrun(tmp_path / "whole", *words, processes=first)
    assert whole.finish()[0] == 0
    run = Torchrun(tmp_path / "run", *words, processes=first)
    run.reach(20)
    run.process.send_signal(signal.SIGTERM)
    run.finish(60)
    stopped = last_step(tmp_path / "run", "pretrain") + 1
    code, printed = Torchrun(tmp_path / "run", *words, processes=then).finish()
    assert code == 0, printed
    assert f"resumed at step {stopped} of 40" in printed
    ours, theirs = (logged(tmp_path / name, "pretrain") for name in ("run", "whole"))
    assert ours[:stopped] == theirs[:stopped]
    assert len(ours) == len(theirs) == 40
    for one, other in zip(ours[stopped:], theirs[stopped:], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
