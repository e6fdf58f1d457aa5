"""The log: what is kept is what happened, and no logger can stop a run."""

import json
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from fovea.config import ConfigError
from fovea.engine.log import RunLog, open_loggers
from fovea.engine.stopping import Interrupted
from fovea.interfaces import Logger
from fovea.logger.config import TensorBoardConfig
from fovea.recipe import Recipe, read_recipe

METRICS = {"loss": 1.0, "lr": 0.1}


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("fovea.engine.pace.time", SimpleNamespace(monotonic=made.monotonic))
    return made


class Kept(Logger):
    """Keeps what it is given; from some call on, it fails."""

    Config = TensorBoardConfig

    def __init__(self, fails_after: int = 1000):
        self.left, self.calls = fails_after, []

    def _call(self, *what: object) -> None:
        self.left -= 1
        if self.left < 0:
            raise ConnectionError("the network\nis down")
        self.calls.append(what)

    def metrics(self, step, values):
        self._call(step, dict(values))

    def warning(self, step, text):
        self._call(step, text)

    def picture(self, step, name, file):
        self._call(step, name)

    def close(self):
        self._call("closed")


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_speed_and_waiting_are_those_since_the_last_line(tmp_path: Path, clock: Clock):
    with RunLog(tmp_path, "pretrain", 0, 4, batch_size=10) as log:
        for step, (wait, work) in enumerate([(9.0, 1.0), (0.0, 3.0), (1.0, 1.0), (1.5, 0.5)]):
            with log.waiting():
                clock.now += wait
            clock.now += work
            log.step(step, METRICS if step in (0, 2, 3) else None)
    timing = [(line["images_per_second"], line["data_wait"]) for line in lines(tmp_path)]
    assert timing == [(1.0, 0.9), (4.0, 0.2), (5.0, 0.75)]


def test_measuring_beside_training_does_not_slow_it(tmp_path: Path, clock: Clock):
    with RunLog(tmp_path, "pretrain", 0, 2, batch_size=10) as log:
        clock.now += 1
        log.step(0, METRICS)
        with log.aside():
            clock.now += 1000
        clock.now += 1
        log.step(1, METRICS)
    assert [line["images_per_second"] for line in lines(tmp_path)] == [10, 10]


def test_the_end_of_the_data_passes_through_waiting(tmp_path: Path):
    log = RunLog(tmp_path, "pretrain", 0, 1, 1)
    with log, pytest.raises(StopIteration), log.waiting():
        next(iter(()))


def test_a_resumed_log_forgets_what_comes_again_and_what_was_torn(tmp_path: Path):
    with RunLog(tmp_path, "pretrain", 0, 9, 1) as log:
        for step in range(5):
            log.step(step, METRICS)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b"\x00\x00\xff garbage\n[1]\n" + b'{"step": 2, "loss": 7.0}')  # torn
    with RunLog(tmp_path, "pretrain", 3, 9, 1) as log:
        log.step(3, METRICS)
    assert [line["step"] for line in lines(tmp_path)] == [0, 1, 2, 3]
    assert {line["loss"] for line in lines(tmp_path)} == {1.0}


def test_a_failure_is_kept_until_the_run_goes_on(tmp_path: Path):
    def train(error: BaseException) -> None:
        with RunLog(tmp_path, "pretrain", 0, 9, 1) as log:
            log.step(0, METRICS)
            raise error

    def fail(error: BaseException) -> None:
        with pytest.raises(type(error)):
            train(error)

    fail(RuntimeError("no\nmore"))
    assert lines(tmp_path)[-1] == {"step": 1, "failed": "RuntimeError: no more"}
    for stopped in (Interrupted(signal.SIGTERM), KeyboardInterrupt()):
        fail(stopped)
        assert [line["step"] for line in lines(tmp_path)] == [0]


@pytest.mark.parametrize("fails_after", range(4))
def test_a_logger_that_fails_is_reported_once_and_left_out(
    fails_after: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    broken, healthy = Kept(fails_after), Kept()
    loggers = [("loggers.0 (a)", broken), ("loggers.1 (b)", healthy)]
    with RunLog(tmp_path, "pretrain", 0, 2, 1, loggers) as log:
        log.step(0, METRICS)
        log.warn(0, "beware")
        log.picture(0, "seen", tmp_path / "seen.png")
        log.record(1, {"online/knn_vit": 0.5})
    assert [call[0] for call in healthy.calls] == [0, 0, 0, 1, "closed"]
    assert broken.calls == healthy.calls[:fails_after]
    printed = capsys.readouterr().out.splitlines()
    told = [line for line in printed if "loggers.0" in line]
    assert told == [
        "WARNING loggers.0 (a): failed and is left out from now on: ConnectionError: the network "
        "is down"
    ]
    assert [line["step"] for line in lines(tmp_path)] == [0, 0, 1]


def test_other_processes_say_and_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with RunLog(tmp_path, "pretrain", 0, 2, 1, is_main=False) as log:
        for step in range(2):
            log.step(step, METRICS)
        log.warn(1, "beware")
        log.say("hello")
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr() == ("", "")


def recipe(run_dir: Path, loggers: str) -> Recipe:
    return read_recipe("smoke", [f"run_dir={run_dir}", f"loggers={loggers}"])


def missing(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Recipe, str]:
    monkeypatch.setitem(__import__("sys").modules, "trackio", None)  # as if not installed
    wrong = "did not start: it is not installed; pip install 'fovea-vit[trackio]'"
    return recipe(run_dir, "[tensorboard, trackio]"), f"loggers.1 (trackio): {wrong}"


def unwritable(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Recipe, str]:
    (run_dir / "pretrain").mkdir(parents=True, exist_ok=True)
    (run_dir / "pretrain" / "tensorboard").write_text("in the way")
    return recipe(run_dir, "[tensorboard]"), "loggers.0 (tensorboard): did not start: "


@pytest.mark.parametrize("fault", [missing, unwritable])
def test_a_logger_that_cannot_start_stops_a_new_run_and_no_run_that_has_begun(
    fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    asked, sentence = fault(tmp_path, monkeypatch)
    stage = tmp_path / "pretrain"
    for _ in range(2):  # a second try is no later start
        with pytest.raises(ConfigError) as stopped:
            open_loggers(asked, stage, 0)
        assert len(stopped.value.lines) == 1
        assert stopped.value.lines[0].startswith(sentence)
    with RunLog(stage, "pretrain", 0, 1, 1) as log:
        log.step(0, METRICS)
    capsys.readouterr()
    opened = open_loggers(asked, tmp_path / "probe", 0)
    for _, logger in opened:
        logger.close()
    if fault is missing:
        assert [label for label, _ in opened] == ["loggers.0 (tensorboard)"]
        assert capsys.readouterr().out == f"WARNING {sentence}; the run goes on without it\n"
