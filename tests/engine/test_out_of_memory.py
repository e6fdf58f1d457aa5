"""Out of memory: one sentence that names the settings to change, wherever it happens."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from fovea.engine.out_of_memory import explained, gigabytes, remedies
from fovea.engine.stopping import TrainingError
from fovea.eval import main as evaluate
from fovea.recipe import read_recipe
from fovea.train import main as train

CPU = torch.device("cpu")
CARD = "0.5 GB free of 80 GB on Card"
ONE_STEP = [
    *("smoke", "pretrain.steps=1", "pretrain.batch_size=8", "probe.steps=1", "probe.batch_size=8"),
    "policy=null",
]


@pytest.fixture(autouse=True)
def _card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (5 * 10**8, 80 * 10**9))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Card")


def exhausted(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def sentences(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line]


@pytest.mark.parametrize(
    ("stage", "words", "changes"),
    [
        (
            "pretrain",
            ["pretrain.checkpoint_blocks=2", "pretrain.objective.accumulate=2"],
            "pretrain.checkpoint_blocks=true, pretrain.objective.accumulate=4, "
            "precision=bfloat16, a pretrain.batch_size below 8, more processes",
        ),
        (
            "probe",
            ["pretrain=null", "init=random", "precision=bfloat16"],
            "a probe.batch_size below 8, more processes",
        ),
    ],
)
def test_training_ends_in_one_sentence(stage, words, changes, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", exhausted)
    assert train([*ONE_STEP, f"run_dir={tmp_path}", *words]) == 1
    sentence = f"fovea: {stage}: out of memory, with {CARD}; try, in this order: {changes}"
    assert sentences(capsys) == [sentence]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    assert train([*ONE_STEP, f"run_dir={folder}"]) == 0
    return folder


def test_evaluation_ends_in_one_sentence(finished, monkeypatch, capsys):
    monkeypatch.setattr(F, "scaled_dot_product_attention", exhausted)
    assert evaluate([str(finished), "batch_size=16"]) == 1
    (sentence,) = sentences(capsys)
    assert sentence.startswith("fovea: evaluate: out of memory")
    assert sentence.endswith("try, in this order: an evaluate.batch_size below 16")


def test_measuring_beside_training_names_its_own_settings(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.linalg, "solve", exhausted)
    words = ["online={every_epochs: 1, images: 20, batch_size: 10, glimpses: 2, pictures: 0}"]
    assert train([*ONE_STEP, f"run_dir={tmp_path}", *words]) == 1
    (sentence,) = sentences(capsys)
    assert sentence.startswith("fovea: online: out of memory")
    assert sentence.endswith("an online.batch_size below 10, fewer online.images")


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), explained("stage", [], CPU):
        _ = 1 / 0
    with pytest.raises(TrainingError, match="stage: out of memory"), explained("stage", [], CPU):
        exhausted()


def test_what_is_computed_again_already_is_not_advised():
    words = ["pretrain.checkpoint_blocks=true", "pretrain.objective.accumulate=1"]
    recipe = read_recipe("smoke", [*words, "precision=bfloat16"])
    first, second, *_ = remedies(recipe, "pretrain", recipe.pretrain)
    assert first == "pretrain.objective.accumulate=2"
    assert second == "a pretrain.batch_size below 32"


def test_gigabytes_have_three_digits():
    assert [gigabytes(size) for size in (61_340_000_000, 188e9, 12_300_000)] == [
        *("61.3 GB", "188 GB", "0.0123 GB")
    ]
