"""Laws of the second device: it does what a GPU does, and refuses what a GPU refuses."""

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import nn

from fovea.draws import BatchGenerator
from fovea.testing.second_device import second_device, waits


def there(*shape: int) -> torch.Tensor:
    return torch.ones(shape, device="cuda")


MIXED: dict[str, Callable[[], object]] = {
    "add": lambda: there(3) + torch.ones(3),
    "matrix product": lambda: there(2, 2) @ torch.ones(2, 2),
    "stack with a scalar": lambda: torch.stack([there(2).sum(), torch.tensor(1.0)]),
    "cat": lambda: torch.cat([there(2), torch.ones(2)]),
    "where": lambda: torch.where(torch.ones(3, dtype=torch.bool), there(3), 0.0),
    "gather": lambda: there(2, 2).gather(1, torch.zeros(2, 1, dtype=torch.int64)),
    "index_select": lambda: there(2, 2).index_select(0, torch.zeros(1, dtype=torch.int64)),
    "embedding": lambda: nn.Embedding(3, 2).to("cuda")(torch.tensor([1])),
    "linear layer left behind": lambda: nn.Linear(3, 2)(there(1, 3)),
    "an update in place": lambda: there(3).add_(torch.ones(3)),
    "a generator of the CPU": lambda: torch.rand(3, device="cuda", generator=torch.Generator()),
    "in-place draw by the CPU's": lambda: there(3).normal_(generator=torch.Generator()),
    "a generator of the device": lambda: torch.rand(3, generator=torch.Generator("cuda")),
}
ALLOWED: dict[str, Callable[[], torch.Tensor]] = {
    "a number": lambda: there(3) + 1,
    "a scalar of the CPU": lambda: there(3) * torch.tensor(2.0),
    "a CPU index": lambda: there(3)[torch.tensor([0, 2])],
    "a list as an index": lambda: there(3)[[0, 2]],
    "a move": lambda: torch.ones(3).to("cuda"),
    "a copy": lambda: there(3).copy_(torch.zeros(3)),
    "its own generator": lambda: torch.rand(3, device="cuda", generator=torch.Generator("cuda")),
    "a batch's generator": lambda: torch.rand(3, device="cuda", generator=BatchGenerator("cuda")),
    "numbers beside a tensor": lambda: there(2).new_tensor([1.0, 2.0]),
    "a batch norm": lambda: nn.BatchNorm1d(3).to("cuda")(there(4, 3)),
    "a convolution": lambda: nn.Conv2d(3, 2, 3).to("cuda")(there(1, 3, 5, 5)),
    "autocast": lambda: _half(),
    "a pinned copy": lambda: torch.ones(3).pin_memory().to("cuda", non_blocking=True),
}


def _half() -> torch.Tensor:
    with torch.autocast("cuda", torch.bfloat16):
        product = there(2, 2) @ there(2, 2)
    assert product.dtype == torch.bfloat16
    return product


@pytest.mark.parametrize("what", MIXED)
def test_devices_do_not_mix(what: str) -> None:
    with second_device(), pytest.raises(RuntimeError, match=r"same device|for generator"):
        MIXED[what]()


@pytest.mark.parametrize("what", ALLOWED)
def test_what_a_gpu_allows_is_allowed(what: str) -> None:
    with second_device() as device:
        assert ALLOWED[what]().device == device


def test_numbers_are_those_of_the_cpu() -> None:
    x = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    with second_device():
        y = x.to("cuda")
        found = (y.softmax(1) @ y.T).cpu()
    torch.testing.assert_close(found, x.softmax(1) @ x.T)


@pytest.mark.parametrize("kind", [nn.GRUCell, nn.LSTMCell, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("bias", [True, False])
def test_recurrent_cells_compute_what_they_do_on_the_cpu(kind: type[nn.Module], bias: bool) -> None:
    cell, x = kind(3, 4, bias=bias), torch.rand(2, 3)

    def run(x: torch.Tensor) -> torch.Tensor:
        out = cell(x)
        return out if isinstance(out, torch.Tensor) else out[0]

    wanted = run(x).detach()
    with second_device() as device, torch.no_grad():
        cell.to(device)
        found = run(x.to(device)).cpu()
    torch.testing.assert_close(found, wanted)


def test_numpy_asks_for_a_move() -> None:
    with second_device(), pytest.raises(TypeError, match=r"Use Tensor\.cpu\(\)"):
        there(3).numpy()


def test_a_module_moves_and_is_copied_saved_and_loaded() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    with second_device() as device:
        module.to(device)
        copied = copy.deepcopy(module)
        assert {one.device for one in copied.state_dict().values()} == {device}
        file = io.BytesIO()
        torch.save(module.state_dict(), file)
        module.to("cpu")
    file.seek(0)
    saved = torch.load(file, map_location="cpu", weights_only=True)
    assert all(torch.equal(saved[name], one) for name, one in module.state_dict().items())


def test_what_follows_from_weights_gets_a_gradient() -> None:
    with second_device() as device:
        used, idle = (nn.Linear(2, 1).to(device) for _ in range(2))
        optimizer = torch.optim.AdamW([*used.parameters(), *idle.parameters()], fused=True)
        used(there(4, 2)).sum().backward()
        assert all(one.grad is not None and one.grad.device == device for one in used.parameters())
        assert all(one.grad is None for one in idle.parameters())
        before = used.weight.detach().clone()
        optimizer.step()
        assert not torch.equal(before, used.weight)


def test_outside_of_the_block_all_is_as_before() -> None:
    before = torch.Generator, torch.Tensor.tolist, torch.save, torch.cuda.is_available()
    with second_device():
        pass
    assert (torch.Generator, torch.Tensor.tolist, torch.save, torch.cuda.is_available()) == before
    assert torch.Generator().device.type == BatchGenerator().device.type == "cpu"


def test_blocks_nest() -> None:
    with second_device() as outer, second_device() as inner:
        assert (there(2) + there(2)).device == outer == inner


WAITING: dict[str, Callable[[], object]] = {
    "item": lambda: there(1).item(),
    "bool": lambda: bool(there(1) > 0),
    "cpu": lambda: there(2).cpu(),
    "tolist": lambda: there(2).tolist(),
    "a mask": lambda: there(3)[there(3) > 0],
    "nonzero": lambda: there(3).nonzero(),
    "a move of pageable memory": lambda: torch.ones(3).to("cuda"),
    "a tensor from numbers": lambda: torch.tensor([1.0, 2.0], device="cuda"),
    "equal": lambda: torch.equal(there(2), there(2)),
}
SWIFT: dict[str, Callable[[], object]] = {
    "arithmetic": lambda: (there(3) * 2 + there(3)).sum(),
    "a pinned copy": lambda: torch.ones(3).pin_memory().to("cuda", non_blocking=True),
    "a copy back": lambda: torch.empty(3).pin_memory().copy_(there(3), non_blocking=True),
    "makers": lambda: (torch.full((3,), 2.0, device="cuda"), torch.arange(3, device="cuda")),
    "an index": lambda: there(3)[torch.zeros(2, dtype=torch.int64, device="cuda")],
    "an event": lambda: torch.cuda.Event().record(),
}


@pytest.mark.parametrize("what", WAITING)
def test_where_the_host_waits_is_listed(what: str) -> None:
    with second_device():
        there(1)
        with waits() as found:
            WAITING[what]()
    assert found


@pytest.mark.parametrize("what", SWIFT)
def test_where_it_does_not_wait_nothing_is_listed(what: str) -> None:
    with second_device():
        there(1)
        with waits() as found:
            SWIFT[what]()
    assert not found
