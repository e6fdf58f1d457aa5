"""Processes that read data and die, hang, or raise: the run ends in a line that names them."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.trainings import Nursery, logged

from fovea.data.loader import Order

WORDS = ["data={name: fragile}", "probe=null", "policy=null", "workers=2", "data_timeout=2"]
(FAULTY, _, _), *_ = next(iter(Order(320, batch_size=8, seed=0, start=14, stop=15)))
FAULTS = {  # what an image does to its reader, and what is said of it
    "os.kill(os.getpid(), signal.SIGKILL)": "was killed by SIGKILL",
    "ctypes.string_at(0)": "was killed by SIGSEGV",
    "os._exit(3)": "exited with code 3",
    "time.sleep(1000)": "has read nothing for 2 s",
    "raise Unpicklable()": rf"cannot read image number {FAULTY}: Unpicklable: local \(",
    "raise KeyError('label')": rf"cannot read image number {FAULTY}: KeyError: 'label' \(",
}
PLUGIN = """
import ctypes, os, signal, time
from pathlib import Path
from fovea import hookimpl
from fovea.section import Section
import numpy as np

@hookimpl
def register_data_sets(register):
    register("fragile", "fovea_fragile:Fragile", config="fovea_fragile:Config")

class Config(Section):
    size: tuple[int, int] = (28, 28)

def __getattr__(name):  # torch is imported only now
    if name != "Fragile":
        raise AttributeError(name)
    from fovea.interfaces import DataSet, Sample

    class Unpicklable(Exception):  # a class of a function cannot be sent to another process
        def __init__(self):
            super().__init__("local")

    class Fragile(DataSet):
        Config = Config

        def __init__(self, config, *, split, channels):
            self.classes = ("one", "other")

        def __len__(self):
            return 320

        def name(self, index):
            return f"image {index}"

        def sample(self, index, epoch):
            faulty = Path(os.environ["FOVEA_FRAGILE"])
            if index == FAULTY and faulty.exists():
                exec(faulty.read_text(), {**globals(), "Unpicklable": Unpicklable})
            return Sample(np.full((28, 28, 1), index % 256, np.uint8), index % 2)

    return Fragile
"""


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Nursery, Path, Path]]:
    """Install a data set with one image that does harm, as a file says; train once without it."""
    site = tmp_path_factory.mktemp("site")
    (site / "fovea_fragile.py").write_text(PLUGIN.replace("FAULTY", str(FAULTY)))
    info = site / "fovea_fragile-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fovea-fragile\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fovea]\nfragile = fovea_fragile\n")
    path = f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with Nursery(PYTHONPATH=path, FOVEA_FRAGILE=str(site / "faulty")) as nursery:
        code, printed = nursery.train(site / "whole", *WORDS).finish()
        assert code == 0, printed
        yield nursery, site / "faulty", site / "whole"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_worker_that_fails_ends_the_run_in_a_line_that_names_it_and_the_run_can_go_on(
    fault: str, fragile: tuple[Nursery, Path, Path], tmp_path: Path
) -> None:
    nursery, faulty, whole = fragile
    faulty.write_text(fault)
    began = time.monotonic()
    code, printed = nursery.train(tmp_path / "run", *WORDS).finish(seconds=60)
    assert code == 1, printed
    assert time.monotonic() - began < 30
    line = printed.splitlines()[-1]
    named = rf"fovea: pretrain: data worker [01] of 2 of rank 0 {FAULTS[fault]}"
    assert re.match(named, line), printed
    assert "the same command goes on from the newest checkpoint" in line
    assert "Traceback" not in printed
    made = [line for line in logged(tmp_path / "run", "pretrain") if "loss" in line]
    assert 7 <= len(made) <= 14
    faulty.unlink()
    code, printed = nursery.train(tmp_path / "run", *WORDS).finish()
    assert code == 0, printed
    assert "resumed at step" in printed
    assert logged(tmp_path / "run", "pretrain") == logged(whole, "pretrain")
