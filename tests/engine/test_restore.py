"""A checkpoint fits in every part, or the run stops and names what does not."""

from pathlib import Path

import pytest
import torch
from torch import nn

from fovea.engine.checkpoint import load_file, save_file
from fovea.engine.restore import restore
from fovea.engine.stopping import TrainingError


class Network(nn.Module):
    def __init__(self, width: int = 3, more: int = 0):
        super().__init__()
        self.first = nn.Linear(2, width)
        self.rest = nn.ModuleList(nn.Linear(width, 1) for _ in range(1 + more))


def begun(width: int = 3, more: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    network = Network(width, more)
    groups = [
        {"params": list(network.first.parameters())},
        {"params": [*network.rest.parameters()]},
    ]
    return network, torch.optim.AdamW(groups, lr=0.1)


@pytest.fixture
def contents() -> dict[str, object]:
    network, optimizer = begun()
    network.rest[0](network.first(torch.ones(4, 2))).sum().backward()
    optimizer.step()
    return {
        "stage": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "guard": {},
        "threads": 1,
        "warned": [],
        "best": [-1.0, 0],
        "step": 1,
    }


def test_what_fits_is_loaded_to_the_bit(contents: dict[str, object], tmp_path: Path) -> None:
    save_file(contents, tmp_path / "file.pt")
    network, optimizer = begun()
    restore(network, optimizer, load_file(tmp_path / "file.pt"), "file.pt")
    for name, value in network.state_dict().items():
        assert torch.equal(value, contents["stage"][name])
    for index, averages in optimizer.state_dict()["state"].items():
        for key, value in averages.items():
            assert torch.equal(value, contents["optimizer"]["state"][index][key])


def refused(contents: dict[str, object], width: int = 3, more: int = 0) -> str:
    """Restore into a network; return the complaint, with all weights left as they were."""
    network, optimizer = begun(width, more)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(TrainingError, match=r"^a\.pt is a checkpoint of another model: ") as error:
        restore(network, optimizer, contents, "a.pt")
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    return str(error.value).partition("model: ")[2]


@pytest.mark.parametrize("part", ["stage", "optimizer", "guard", "threads"])
def test_a_part_that_is_missing_is_named(part: str, contents: dict[str, object]) -> None:
    del contents[part]
    assert refused(contents) == f"it lacks {part}; use another run_dir"


def test_of_weights_that_are_missing_three_are_named(contents: dict[str, object]) -> None:
    text = refused(contents, more=2)
    assert text.startswith("it lacks rest.1.weight, rest.1.bias, rest.2.weight and 1 more; ")


def test_of_weights_that_are_unknown_or_of_other_shapes_three_are_named(
    contents: dict[str, object],
) -> None:
    contents["stage"] = {**contents["stage"], "head.weight": torch.ones(1)}
    text = refused(contents, width=4)
    assert "unknown to the model are head.weight; " in text
    assert "first.weight [3, 2] instead of [4, 2], first.bias [3] instead of [4], rest.0." in text


def test_nothing_that_fits_is_no_fresh_start(contents: dict[str, object]) -> None:
    contents["stage"] = {f"other.{name}": value for name, value in contents["stage"].items()}
    assert refused(contents).startswith("it lacks first.weight, first.bias, rest.0.weight and 1 ")


def test_averages_of_other_weights_are_named(contents: dict[str, object]) -> None:
    averages = contents["optimizer"]["state"][0]
    averages["exp_avg"] = torch.ones(5, 5)
    text = refused(contents)
    assert text.startswith("of other shapes are exp_avg of first.weight [5, 5] instead of [3, 2]")


def test_averages_of_another_number_of_weights_are_refused(contents: dict[str, object]) -> None:
    contents["optimizer"]["param_groups"][1]["params"].append(9)
    assert refused(contents).startswith("its optimizer has averages of 5 weights instead of 4")
    contents["optimizer"]["param_groups"][1]["params"].pop()
    contents["optimizer"]["param_groups"] = [
        {**contents["optimizer"]["param_groups"][0], "params": [0, 1, 2, 3]}
    ]
    assert "parameter group" in refused(contents)
