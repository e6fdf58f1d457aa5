"""Writers killed, disks full or read-only, folders removed or shared, clocks set back."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.trainings import ENVIRONMENT, TINY, Nursery, children, logged

from fovea.engine.checkpoint import load_newest

SHORT = ["probe=null", "policy=null"]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as started:
        yield started


@pytest.fixture(scope="module")
def whole(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train without a fault."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    code, printed = nursery.train(folder, *SHORT).finish()
    assert code == 0, printed
    return folder


SAVE_AND_KILL = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from fovea.engine.checkpoint import Checkpoints, load_newest

folder, draws, done = Path(sys.argv[1]), random.Random(0), Path(sys.argv[1]) / "done"
checkpoints = Checkpoints(folder, keep=2)
for number in range(50):
    contents, problems = checkpoints.load_newest()
    assert not list(folder.glob(".*")), "a temporary file outlived the restart"
    assert not problems, problems
    step = contents["step"] if contents else 0
    assert step >= (int(done.read_text()) if done.exists() else 0), "a finished one was lost"
    if contents:
        assert all((value == step).all() for value in contents["weights"].values()), "mixed"
    saver = os.fork()
    if saver == 0:
        while True:
            step += 1
            weights = {str(i): torch.full((1_250_000,), float(step)) for i in range(8)}  # 40 MB
            checkpoints.save(step, {"weights": weights})
            os.write(os.open(done, os.O_WRONLY | os.O_CREAT), b"%08d" % step)
    time.sleep(draws.random() * 0.3)
    os.kill(saver, signal.SIGKILL)
    os.waitpid(saver, 0)
print(load_newest(folder)[0]["step"])
"""


@pytest.mark.fault
def test_fifty_kills_of_a_process_that_saves_lose_nothing_that_was_saved(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SAVE_AND_KILL, str(tmp_path)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5


def small_disk(folder: Path, options: str, program: str, *words: str) -> tuple[int, str]:
    """Run a program where a disk of its own, seen by nobody else, is mounted on a folder."""
    mount = f"mount -t tmpfs -o {options} tmpfs {folder} && exec {sys.executable} -c "
    shell = f'{mount} "$PROGRAM" "$@"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", shell, "sh", *words],
        env={**ENVIRONMENT, "PROGRAM": program},
        capture_output=True,
        text=True,
        timeout=200,
    )
    return done.returncode, done.stdout + done.stderr


def can_mount() -> bool:
    words = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "x", "/mnt"]
    return shutil.which("unshare") is not None and subprocess.run(words).returncode == 0


mounts = pytest.mark.skipif(not can_mount(), reason="no disk may be mounted here")

FILL = """
import os, signal, sys, time
from pathlib import Path
from fovea.engine.checkpoint import load_newest
from fovea.train import main

disk, words = Path(sys.argv[1]), sys.argv[2:]
folder = disk / "run" / "pretrain"
printed = os.open(disk.parent / "printed.txt", os.O_RDWR | os.O_CREAT)

def start():
    training = os.fork()
    if training == 0:
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        code = main(["quickstart", f"run_dir={disk / 'run'}", *words])
        sys.stdout.flush()
        os._exit(code)
    return training

def free():
    return os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize

first = start()
while not list(folder.glob("checkpoint-*")):
    time.sleep(0.001)
filler = open(disk / "filler", "wb", buffering=0)
while free() > 100_000:  # enough for lines of the log, and for no checkpoint
    filler.write(bytes(free() - 100_000))
if any("continue" in word for word in words):
    while b"training goes on" not in os.pread(printed, 1_000_000, 0):
        time.sleep(0.001)
    filler.truncate(0)
    print(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]))
else:
    print(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]))
    print(load_newest(folder)[0]["step"], [one.name for one in folder.glob(".*")])
    filler.truncate(0)
    print(os.waitstatus_to_exitcode(os.waitpid(start(), 0)[1]))
os.execlp("cp", "cp", "-r", str(disk / "run"), str(disk.parent / "copy"))
"""
LARGER = ["pretrain.objective.head.hidden=128"]  # so that checkpoints are of some 300 kB


@pytest.fixture(scope="module")
def larger(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("larger") / "run"
    assert nursery.train(folder, *LARGER, *SHORT).finish()[0] == 0
    return folder


@mounts
def test_a_full_disk_ends_the_run_by_name_and_it_goes_on_when_there_is_space(
    larger: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    code, said = small_disk(disk, "size=8m", FILL, str(disk), *TINY, *LARGER, *SHORT)
    assert code == 0, said
    printed = (tmp_path / "printed.txt").read_text()
    first, kept, second = said.splitlines()
    assert (first, second) == ("1", "0"), printed
    assert int(kept.split()[0]) >= 7
    assert kept.endswith("[]")  # nothing of the new one is left
    (line,) = [line for line in printed.splitlines() if line.startswith("fovea: ")]
    assert "checkpoint-000000" in line
    assert "MiB) could not be written: No space left on device" in line
    assert "Traceback" not in printed
    assert logged(tmp_path / "copy", "pretrain") == logged(larger, "pretrain")


@mounts
def test_a_full_disk_is_outlived_where_that_is_asked_for(larger: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    words = [*TINY, *LARGER, *SHORT, "on_save_error=continue"]
    code, said = small_disk(disk, "size=8m", FILL, str(disk), *words)
    assert (code, said) == (0, "0\n")
    made, expected = logged(tmp_path / "copy", "pretrain"), logged(larger, "pretrain")
    assert [line for line in made if "warning" not in line] == expected
    assert any("No space left on device" in str(line.get("warning")) for line in made)


@mounts
def test_a_read_only_folder_is_one_line(tmp_path: Path) -> None:
    program = "import sys; from fovea.train import main; sys.exit(main(sys.argv[1:]))"
    words = ["quickstart", f"run_dir={tmp_path}/run", *TINY, *SHORT]
    code, said = small_disk(tmp_path, "ro", program, *words)
    assert code == 2
    (line,) = said.splitlines()
    assert line.startswith("fovea: ")
    assert "Read-only file system" in line
    assert str(tmp_path) in line


def test_a_folder_that_is_removed_while_the_run_goes_on_is_one_line(
    nursery: Nursery, tmp_path: Path
) -> None:
    training = nursery.train(tmp_path / "run", *SHORT, "pretrain.steps=10000")
    training.reach(8)
    while (tmp_path / "run").exists():
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
    code, printed = training.finish(seconds=20)
    assert code == 1
    assert "could not be written: its folder was removed" in printed.splitlines()[-1]
    assert "Traceback" not in printed
    assert not (tmp_path / "run").exists()


def test_a_second_run_in_a_folder_refuses_and_a_killed_one_holds_up_nobody(
    nursery: Nursery, whole: Path, tmp_path: Path
) -> None:
    first = nursery.train(tmp_path / "run", *SHORT, "workers=2")
    first.reach(8)
    code, printed = nursery.train(tmp_path / "run", *SHORT, "workers=2").finish()
    assert code == 2
    (line,) = printed.splitlines()
    assert f"run is in use by process {first.pid} on " in line
    workers = children(first.pid)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)  # they outlive their parent
    first.send(signal.SIGKILL)
    first.finish()
    code, printed = nursery.train(tmp_path / "run", *SHORT).finish()
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    assert code == 0, printed
    assert "resumed at step" in printed
    assert logged(tmp_path / "run", "pretrain") == logged(whole, "pretrain")


BACKWARDS = """
import time
began, now = time.time(), time.time
time.time = lambda: began - 1000 * (now() - began)
"""


def test_a_clock_that_is_set_back_changes_nothing(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BACKWARDS)
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with Nursery(PYTHONPATH=path) as nursery:
        first = nursery.train(tmp_path / "run", *SHORT)
        first.reach(10)
        first.send(signal.SIGTERM)
        assert first.finish()[0] == 75
        files = sorted((tmp_path / "run" / "pretrain").glob("checkpoint-*"))
        for age, file in enumerate(files):
            os.utime(file, (10**9 - age, 10**9 - age))  # the newest by number is the oldest
        newest = load_newest(tmp_path / "run" / "pretrain")[0]
        code, printed = nursery.train(tmp_path / "run", *SHORT).finish()
    assert code == 0, printed
    assert f"resumed at step {newest['step']} " in printed
    assert len(files) == 2
    assert logged(tmp_path / "run", "pretrain") == logged(whole, "pretrain")
