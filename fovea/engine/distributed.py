"""Processes that train together, as torchrun or Slurm's srun starts them, and their weights."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from fovea import collective
from fovea.config import ConfigError
from fovea.stages.stage import Stage


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other processes of this run, if there are any, within this block.

    torchrun sets RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; under srun they follow
    from Slurm's variables.
    """
    _read_slurm()
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def local_rank() -> int:
    """Return the number of this process on its machine: the number of its GPU."""
    _read_slurm()
    return int(os.environ.get("LOCAL_RANK", "0"))


def say(text: str) -> None:
    """Print a line, in the first process only."""
    if collective.rank() == 0:
        print(text, flush=True)


def agree(*values: int) -> list[int]:
    """Return the largest of each value over the processes."""
    if collective.world() == 1:
        return list(values)
    found: list[int] = collective.largest(torch.tensor(values)).tolist()
    return found


def from_first(value: Any) -> Any:
    """Return what the first process has."""
    if collective.world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


@contextmanager
def in_first() -> Iterator[bool]:
    """Say whether this is the first process, which does alone what is in the block.

    Where it fails there, all processes end with it: it raises what happened, the others an empty
    ConfigError.
    """
    if collective.rank() > 0:
        yield False
        if from_first(None):
            raise ConfigError([])
        return
    try:
        yield True
    except BaseException:
        from_first(True)
        raise
    from_first(False)


def listed(values: list[Any]) -> list[Any]:
    """Join the lists of all processes, in their order."""
    if collective.world() == 1:
        return values
    lists: list[list[Any]] = [[] for _ in range(collective.world())]
    dist.all_gather_object(lists, values)
    return [value for one in lists for value in one]


def parallelised(stage: Stage, parallel: str, device: torch.device) -> nn.Module:
    """Make a stage's gradients those of all processes; return what to call.

    ``ddp`` keeps all weights in each process. ``fsdp`` shares out weights, gradients and averages,
    block by block (FSDP2).
    """
    return stage if collective.world() == 1 else shared_out(stage, parallel, device)


def shared_out(stage: Stage, parallel: str, device: torch.device) -> nn.Module:
    """Do so for the processes that there are, even if it is one."""
    if parallel == "ddp":
        # while prototypes are frozen they get no gradient
        return DistributedDataParallel(stage, find_unused_parameters=True)
    mesh = init_device_mesh(device.type, (collective.world(),))
    for backbone in stage.backbones():
        for layer in backbone.layers():
            fully_shard(layer, mesh=mesh)
    fully_shard(stage, mesh=mesh)
    return stage


def whole(tree: Any) -> Any:
    """Gather sharded tensors in a tree of dicts and lists, in every process."""
    if isinstance(tree, DTensor):
        return tree.full_tensor()
    if isinstance(tree, dict):
        return {key: whole(value) for key, value in tree.items()}
    return [whole(value) for value in tree] if isinstance(tree, list) else tree


def load_stage(stage: nn.Module, state: dict[str, Any]) -> None:
    """Load whole weights into a stage, sharded or not."""
    now = stage.state_dict()
    stage.load_state_dict({key: _like(value, now.get(key)) for key, value in state.items()})


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load whole averages into an optimiser, of sharded weights or not."""
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    averages = {
        index: {
            key: _like(value, parameters[index] if value.ndim else None)
            for key, value in of_one.items()
        }
        for index, of_one in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": averages})


def _like(value: Any, now: Any) -> Any:
    """Shard a whole tensor as what is there now; leave everything else."""
    if isinstance(now, DTensor) and not isinstance(value, DTensor):
        return distribute_tensor(value.to(now.device), now.device_mesh, now.placements)
    return value


def _read_slurm() -> None:
    """Translate what srun says to a step of several tasks into what torch reads."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")  # of sbatch's own shell it is not set
    if "WORLD_SIZE" in os.environ or int(tasks) == 1:
        return
    hosts = ["scontrol", "show", "hostnames", os.environ["SLURM_STEP_NODELIST"]]
    first = subprocess.run(hosts, capture_output=True, text=True, check=True).stdout.split()[0]
    port = 20_000 + int(os.environ["SLURM_JOB_ID"]) % 40_000
    os.environ |= {
        "WORLD_SIZE": tasks,
        "RANK": os.environ["SLURM_PROCID"],
        "LOCAL_RANK": os.environ["SLURM_LOCALID"],
        "MASTER_ADDR": os.environ.get("MASTER_ADDR", first),
        "MASTER_PORT": os.environ.get("MASTER_PORT", str(port)),
    }
