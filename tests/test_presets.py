"""Laws of ``auto``: the paper's numbers at the paper's size, and sound ones at every other."""

import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import fovea
from fovea import train
from fovea.config import ConfigError, read_yaml, to_tree, to_yaml, validate
from fovea.presets import Resolution, resolve
from fovea.recipe import Recipe, read_recipe
from fovea.schedule import Schedule

PAGE = Path(__file__).parents[1] / "docs" / "training.md"
HEAD, LR = "pretrain.objective.head.prototypes", "pretrain.optimizer.lr"
MOMENTUM, TEMPERATURE = "pretrain.objective.momentum", "pretrain.objective.teacher_temperature"
KEYS = (LR, HEAD, TEMPERATURE, MOMENTUM)
AUTO = [f"{key}=auto" for key in KEYS]
PAPER = ("dino_seq2global", ["data.root=/nowhere"], 1_281_167)

law = settings(derandomize=True, deadline=None, max_examples=40)
images = st.integers(2, 3_000_000)
batches = st.integers(2, 4096)
steps = st.integers(1, 2_000_000)


def of_size(images: int, batch: int, steps: int) -> dict[str, Any]:
    """Resolve everything for a size; return values by key."""
    recipe = read_all_auto()
    assert recipe.pretrain is not None
    size = {"batch_size": min(batch, images), "steps": steps}
    pretrain = recipe.pretrain.model_copy(update=size)
    return values(resolve(recipe.model_copy(update={"pretrain": pretrain}), images))


@cache
def read_all_auto() -> Recipe:
    return read_recipe("quickstart", ["probe=null", "policy=null", *AUTO])


def values(resolution: Resolution) -> dict[str, Any]:
    return {one.key: one.value for one in resolution.choices}


def differing(one: object, other: object, where: str = "") -> set[str]:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return {key for name in one for key in differing(one[name], other[name], f"{where}.{name}")}
    return set() if one == other else {where.removeprefix(".")}


def test_at_the_paper_s_size_auto_means_the_paper_s_recipe() -> None:
    config, words, images = PAPER
    resolution = resolve(read_recipe(config, [*words, *AUTO]), images)
    assert resolution.recipe == read_recipe(config, words)
    assert set(values(resolution)) == set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_each_number_can_be_left_to_auto_alone(key: str) -> None:
    by_hand = read_recipe("quickstart")
    resolution = resolve(read_recipe("quickstart", [f"{key}=auto"]), 77_000)
    changed = differing(to_tree(by_hand), to_tree(resolution.recipe))
    assert all(f"{one}.".startswith(f"{key}.") for one in changed)
    assert list(values(resolution)) == [key]


def test_a_recipe_without_auto_stays_as_it_is() -> None:
    recipe = read_recipe("quickstart")
    resolution = resolve(recipe, 4000)
    assert resolution.recipe == recipe
    assert resolution.choices == ()


def test_what_is_resolved_round_trips_and_has_nothing_left_to_resolve() -> None:
    resolution = resolve(read_recipe("quickstart", AUTO), 4000)
    written = validate(Recipe, yaml.safe_load(to_yaml(resolution.recipe)))
    assert written == resolution.recipe
    assert resolve(written, 9_000_000) == Resolution(written, 9_000_000, ())
    assert resolve(read_recipe("quickstart", AUTO), 4000) == resolution  # the same each time


def test_only_the_stages_numbers_are_resolved() -> None:
    recipe = read_recipe("quickstart", [*AUTO, "model.backbone.attention=auto"])
    assert resolve(recipe, 4000).recipe.device == "auto"
    assert resolve(recipe, 4000).recipe.model == recipe.model


@law
@given(images, batches, steps)
def test_prototypes_stand_for_several_images_and_fit_the_batch(n: int, B: int, T: int) -> None:
    K = of_size(n, B, T)[HEAD]
    assert 64 <= K <= 65536
    assert K & (K - 1) == 0
    each, ratio = n / K, K / (2 * min(B, n))
    if K > 64:
        assert each >= 16
        assert ratio <= 32
    if K < 65536:
        assert each < 32 or ratio > 16  # twice as many would have been too many


@law
@given(images, batches, steps)
def test_the_warm_up_is_short_beside_the_training_and_the_teacher_follows(
    n: int, B: int, T: int
) -> None:
    chosen = of_size(n, B, T)
    warmup, averaged = chosen[LR]["warmup"], 1 / (1 - chosen[MOMENTUM]["start"])
    assert 0.033 < warmup <= 0.1
    assert warmup == 0.1 or warmup * T > 1950  # rounded
    assert 0.9 <= chosen[MOMENTUM]["start"] < 1
    assert averaged < max(10, T / 30) * 1.01
    # what is left of the random start after a tenth of the training, if that has 30 steps or more
    assert T < 300 or chosen[MOMENTUM]["start"] ** (T / 10) < 0.06
    temperature = Schedule.model_validate(Schedule(**chosen[TEMPERATURE]))
    assert 0.04 <= temperature.at(0.3) <= 0.07
    assert n >= 1_000_000 or temperature.at(0.3) == 0.04


@law
@given(images, batches, steps, st.integers(1, 50))
def test_more_images_larger_batches_and_longer_trainings_never_mean_less(
    n: int, B: int, T: int, times: int
) -> None:
    B = min(B, n)
    small = of_size(n, B, T)
    assert of_size(times * n, B, T)[HEAD] >= small[HEAD]
    assert of_size(times * n, times * B, T)[HEAD] >= small[HEAD]
    assert of_size(n, B, times * T)[MOMENTUM]["start"] >= small[MOMENTUM]["start"]
    assert of_size(times * n, times * B, T)[LR]["start"] >= small[LR]["start"]


def test_the_teacher_averages_as_many_images_whatever_the_batch() -> None:
    averaged = [
        batch / (1 - of_size(2_000_000, batch, 1_500_000)[MOMENTUM]["start"])
        for batch in (64, 256, 1024)
    ]
    assert averaged == pytest.approx([256_000] * 3, rel=0.01)


def test_a_warm_up_is_resolved_by_the_steps_of_its_own_stage() -> None:
    words = [f"{stage}.optimizer.lr.warmup=auto" for stage in ("pretrain", "probe")]
    words += ["pretrain.steps=30000", "probe.epochs=null", "probe.steps=40000"]
    recipe = resolve(read_recipe("quickstart", words), 4000).recipe
    assert recipe.pretrain is not None
    assert recipe.probe is not None
    assert recipe.pretrain.optimizer.lr.warmup == pytest.approx(2000 / 30000, abs=1e-4)
    assert recipe.probe.optimizer.lr.warmup == pytest.approx(2000 / 40000, abs=1e-4)
    assert recipe.pretrain.optimizer.lr.start == 0.002  # as the file has it


def test_schedules_that_outlast_the_training_count_their_own_steps() -> None:
    words = ["data.root=/nowhere", *AUTO, "pretrain.epochs=10", "pretrain.batch_size=100"]
    long = resolve(read_recipe("ablation", [*words, "pretrain.scheduled_epochs=300"]), 10_000)
    short = resolve(read_recipe("ablation", [*words, "pretrain.scheduled_epochs=10"]), 10_000)
    assert values(long)[MOMENTUM]["start"] == pytest.approx(1 - 30 / 30_000)
    assert values(short)[MOMENTUM]["start"] == pytest.approx(1 - 30 / 1000)


def test_a_batch_larger_than_the_data_is_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"^batch_size 64 is more than the 63 images$"):
        resolve(read_recipe("quickstart", AUTO), 63)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (f"{HEAD}=atuo", "input should be a valid integer, or 'auto', found 'atuo'"),
        (f"{HEAD}=1", "input should be greater than or equal to 2, or 'auto', found 1"),
        (f"{HEAD}=2.5", "input should be a valid integer, or 'auto', found 2.5"),
        (f"{MOMENTUM}=atuo", "expected 'key: value' lines below it, or 'auto', found 'atuo'"),
        (f"{LR}.warmup=1", "input should be less than 1, or 'auto', found 1"),
        ("probe.optimizer.lr=auto", "expected 'key: value' lines below it, found 'auto'"),
        ("probe.optimizer.weight_decay.end=auto", "input should be a valid number, found 'auto'"),
    ],
)
def test_a_mistake_beside_auto_is_one_sentence(word: str, message: str) -> None:
    words = [word] if "weight_decay" not in word else [word, word.replace("end=auto", "start=1")]
    with pytest.raises(ConfigError) as caught:
        read_recipe("quickstart", words)
    assert caught.value.lines == [f"{word.partition('=')[0]}: {message}"]


def test_one_key_of_a_schedule_takes_the_place_of_auto(tmp_path: Path) -> None:
    file = tmp_path / "auto.yaml"
    file.write_text(to_yaml(read_recipe("quickstart", AUTO)), encoding="utf-8")
    recipe = read_recipe(str(file), [f"{MOMENTUM}.start=0.9", f"{MOMENTUM}.end=1"])
    assert to_tree(recipe)["pretrain"]["objective"]["momentum"]["start"] == 0.9


@pytest.mark.parametrize("key", ["momentum", "teacher_temperature", "head.prototypes"])
def test_an_objective_wants_numbers(key: str) -> None:
    name, _, inner = key.partition(".")
    word: Any = {inner: "auto"} if inner else "auto"
    tiny = {"width": 64, "depth": 1, "heads": 2}
    backbone = fovea.create("backbone", "timm_vit", patch_size=8, channels=3, **tiny)
    with pytest.raises(ConfigError, match=f"^{re.escape(key)}: auto is replaced in the stages"):
        fovea.create(
            "ssl_objective",
            "dino_seq2global",
            backbone=backbone,
            context=fovea.create("context_builder", "foveal"),
            policy=fovea.create("gaze_policy", "random", width=64, num_state_tokens=8),
            **{name: word},
        )
    with pytest.raises(ConfigError, match=r"^warmup: auto is replaced"):
        Schedule(start=1.0, end=0.0, warmup="auto").at(0.5)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(generator.integers(0, 255, (24, 32), np.uint8)).save(
            folder / f"{number}.png"
        )
    return folder


def test_a_run_tells_and_keeps_its_numbers_and_wants_the_same_images(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    words = [
        *("smoke", f"run_dir={run_dir}", "data.name=folder", f"data.root={photos}", *AUTO),
        *("pretrain.steps=2", "pretrain.batch_size=4", "probe=null", "policy=null", "threads=1"),
    ]
    resolution = resolve(read_recipe(words[0], words[1:]), 6)
    assert train.main(words) == 0
    assert str(resolution) in capsys.readouterr().out
    assert read_yaml(run_dir / "config.yaml") == to_tree(resolution.recipe)
    kept = json.loads((run_dir / "auto.json").read_text())
    assert kept["images"] == 6
    assert {key: one["value"] for key, one in kept["values"].items()} == values(resolution)
    assert train.main(words) == 0  # goes on; there is nothing left to do
    before = (run_dir / "config.yaml").read_bytes(), (run_dir / "auto.json").read_bytes()

    (photos / "0.png").unlink()
    capsys.readouterr()
    assert train.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fovea: data: {run_dir} began with 6 images and now there are 5, ")
    assert before == ((run_dir / "config.yaml").read_bytes(), (run_dir / "auto.json").read_bytes())
    assert train.main([str(run_dir / "config.yaml")]) == 0  # as the message says


def test_the_table_of_the_page_is_what_auto_gives() -> None:
    rows = re.findall(r"^\| [\d,]+ \|.*\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) >= 4
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        n, B, epochs, T = (int(cell.replace(",", "")) for cell in cells[:4])
        assert round(epochs * (n // B)) == T
        chosen = of_size(n, B, T)
        temperature = dict.fromkeys(chosen[TEMPERATURE][key] for key in ("start", "end"))
        assert cells[4:] == [
            f"{chosen[HEAD]:,}",
            f"{chosen[LR]['start']:g}",
            f"{math.floor(chosen[LR]['warmup'] * T):,}",
            f"{chosen[MOMENTUM]['start']:.5g}",
            " to ".join(f"{one:g}" for one in temperature),
        ]
