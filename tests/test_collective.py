"""Losses of a batch that two processes share, against the whole batch in one."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from fovea import collective
from fovea.objective.config import HeadConfig
from fovea.objective.head import ProjectionHead
from fovea.objective.losses import koleo, sinkhorn

SHARES = ([0, 1, 2], [3, 4])  # rows of each process: an image of the second one is bad
SETTINGS = {"hidden": 8, "bottleneck": 4, "prototypes": 6, "batch_norm": True}


def features() -> torch.Tensor:
    return torch.randn(5, 7, generator=torch.Generator().manual_seed(0))


def head() -> ProjectionHead:
    torch.manual_seed(1)
    return ProjectionHead(HeadConfig(**SETTINGS), 7).train()


def losses(rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the objective computes of some rows: values, and gradients of their mean over all."""
    rows = rows.clone().requires_grad_()
    module = head()
    logits = module(rows)
    count = collective.total(torch.tensor(float(len(rows))))
    share = len(rows) * collective.world() / count
    loss = logits.logsumexp(1).mean() * share + koleo(rows)
    loss.backward()
    found = {
        "sinkhorn": sinkhorn(logits, 0.05, 3),
        "koleo": koleo(rows),
        "rows": rows.grad / collective.world(),
        "mean": module.mlp[1].running_mean,
        "variance": module.mlp[1].running_var,
    }
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            found[name] = collective.total(parameter.grad) / collective.world()
    return {name: value.detach() for name, value in found.items()}


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    file = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=file, rank=rank, world_size=2)
    rows = features()[SHARES[rank]]
    found = losses(rows)
    found["gathered"] = collective.gathered(rows)
    found["largest"] = collective.largest(rows.amax(0))
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(process, (str(folder),), nprocs=2)
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]


def test_rows_of_all_processes_are_joined_in_their_order(shared):
    for one in shared:
        assert torch.equal(one["gathered"], features())
        assert torch.equal(one["largest"], features().amax(0))


def test_two_processes_compute_what_one_does_with_its_gradients(shared):
    whole = losses(features())
    for name, expected in whole.items():
        by_rows = name in ("sinkhorn", "rows")
        for rank, one in enumerate(shared):
            part = expected[SHARES[rank]] if by_rows else expected
            torch.testing.assert_close(one[name], part, rtol=1e-4, atol=1e-6, msg=name)


def test_one_process_needs_no_group():
    assert (collective.world(), collective.rank()) == (1, 0)
    rows = features()
    for function in (collective.total, collective.largest, collective.gathered):
        assert function(rows) is rows
    assert torch.equal(collective.everyones(rows), rows)
    layer = nn.Linear(2, 3)
    assert collective.local(layer) == list(layer.parameters())
