"""Under srun, ranks follow from Slurm's variables."""

from pathlib import Path

import pytest
import torch

from fovea.engine.run import pick_device
from fovea.testing.second_device import second_device

STEP = {
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_JOB_ID": "41",
    "SLURM_PROCID": "7",
    "SLURM_LOCALID": "3",
}


def test_a_task_takes_the_gpu_of_its_own_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scontrol = tmp_path / "scontrol"  # Slurm's own is on clusters only
    scontrol.write_text("#!/bin/sh\necho node1\necho node2\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "unset")  # so that all are as before, afterwards
        monkeypatch.delenv(name)
    for name, value in STEP.items():
        monkeypatch.setenv(name, value)
    with second_device():
        assert pick_device("auto") == torch.device("cuda", 3)
