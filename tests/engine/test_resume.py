"""A run that is stopped, by whatever means and whenever, ends with the same bits."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.trainings import (
    ENVIRONMENT,
    STAGES,
    TINY,
    Nursery,
    assert_same_weights,
    last_step,
    logged,
)


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as started:
        yield started


@pytest.fixture(scope="module")
def reference(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train without an interruption."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    code, printed = nursery.train(folder).finish()
    assert code == 0, printed
    return folder


def test_sigterm_ctrl_c_and_sigkill_in_turn_change_no_bit(reference, nursery, tmp_path):
    folder = tmp_path / "run"
    printed = ""
    for number, code, stage, step in (
        (signal.SIGTERM, 75, "pretrain", 5),
        (signal.SIGINT, 130, "probe", 5),
        (signal.SIGKILL, -signal.SIGKILL, "policy", 10),
    ):
        training = nursery.train(folder)
        assert training.reach(step, stage)
        training.send(number)
        ended, printed = training.finish()
        assert ended == code, printed
        assert number == signal.SIGKILL or f"stopped by {number.name}" in printed
        assert list((folder / stage).glob("checkpoint-*.pt"))
    code, printed = nursery.train(folder).finish()
    assert code == 0, printed
    assert "policy: resumed at step" in printed
    for stage in STAGES:
        ours, theirs = logged(folder, stage), logged(reference, stage)
        steps = [line["step"] for line in theirs if "loss" in line]  # others are warnings
        assert steps == list(range(len(steps)))
        assert {"loss", "gradient_norm", "lr"} <= theirs[0].keys()
        assert ours == theirs, stage
    assert_same_weights(folder, reference)


def test_the_command_itself_ends_with_the_code_that_asks_to_be_run_again(tmp_path):
    command = [sys.executable, "-m", "fovea.train", "quickstart", f"run_dir={tmp_path / 'run'}"]
    process = subprocess.Popen(
        [*command, *TINY, "pretrain.steps=10000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    deadline = time.monotonic() + 60
    while last_step(tmp_path / "run", "pretrain") < 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGUSR1)
    _, printed = process.communicate(timeout=30)
    assert process.returncode == 75
    assert printed == "fovea: stopped by SIGUSR1; the same command goes on from here\n"


def test_a_finished_run_is_left_as_it_is_and_other_settings_are_refused(reference):
    from fovea.config import ConfigError
    from fovea.engine.run import _claim
    from fovea.recipe import read_recipe

    def claim(*changes: str) -> None:
        words = [f"run_dir={reference}", *TINY, *changes]
        _claim(reference, read_recipe("quickstart", words))

    claim()
    claim("log_every=5", "workers=1", "keep=3", "evaluate.batch_size=2")
    before = (reference / "config.yaml").read_text()
    with pytest.raises(ConfigError) as refused:
        claim("seed=1", "pretrain.optimizer.clip=1.0", "model.backbone.depth=2")
    keys = {line.split(":")[0] for line in refused.value.lines}
    assert keys == {"seed", "pretrain.optimizer.clip", "model.backbone.depth"}
    assert (reference / "config.yaml").read_text() == before


def test_a_run_that_ended_before_its_first_step_may_begin_again_with_other_settings(
    nursery, tmp_path
):
    folder, only = tmp_path / "run", ["probe=null", "policy=null", "pretrain.steps=1"]
    code, _ = nursery.train(folder, *only, "model.backbone.arch=no_such_arch").finish()
    assert code != 0
    assert "no_such_arch" in (folder / "config.yaml").read_text()
    code, printed = nursery.train(folder, *only).finish()
    assert code == 0, printed
    assert "no_such_arch" not in (folder / "config.yaml").read_text()
    assert last_step(folder, "pretrain") == 0


def test_a_kill_while_the_config_is_written_leaves_a_whole_one(tmp_path, monkeypatch):
    from fovea.engine import run
    from fovea.recipe import read_recipe

    recipe = read_recipe("quickstart", [f"run_dir={tmp_path}", *TINY])
    run._claim(tmp_path, recipe)
    whole = (tmp_path / "config.yaml").read_text()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        run._claim(tmp_path, read_recipe("quickstart", [f"run_dir={tmp_path}", *TINY, "keep=5"]))
    assert (tmp_path / "config.yaml").read_text() == whole
