"""Paths of a scheme: opened by an installed plugin's handler, and by nothing else."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from faults.trainings import TINY

import fovea
from fovea import paths
from fovea.engine.run import train
from fovea.recipe import read_recipe
from fovea.weights import CONFIG, TENSORS, is_export, read_export, write_export

HANDLER = '''
import shutil
from pathlib import Path
from iopath.common.file_io import PathHandler

class Shelf(PathHandler):
    """A store in a folder beside this file; files are fetched to another."""

    home = Path(__file__).parent

    def _get_supported_prefixes(self):
        return ["shelf://"]

    def _stored(self, path):
        return self.home / "stored" / path.removeprefix("shelf://")

    def _isfile(self, path, **kwargs):
        return self._stored(path).is_file()

    def _get_local_path(self, path, force=False, **kwargs):
        fetched = self.home / "fetched" / path.removeprefix("shelf://")
        fetched.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self._stored(path), fetched)
        return str(fetched)

    def _copy_from_local(self, local_path, dst_path, overwrite=False, **kwargs):
        self._stored(dst_path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(local_path, self._stored(dst_path))
'''


def install(folder: Path, target: str) -> None:
    """Install a distribution with one handler, as pip would."""
    info = folder / "fovea_shelf-0.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fovea-shelf\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text(f"[fovea.paths]\nshelf = {target}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "fovea_shelf.py").write_text(HANDLER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "fovea_shelf", raising=False)
    paths._handlers.cache_clear()
    yield tmp_path
    paths._handlers.cache_clear()


def test_an_export_goes_through_a_store_that_a_plugin_opens(site: Path) -> None:
    install(site, "fovea_shelf:Shelf")
    weights = {"weight": torch.arange(5.0)}
    write_export({"note": "a"}, weights, "shelf://models/one")
    assert sorted(file.name for file in (site / "stored/models/one").iterdir()) == [CONFIG, TENSORS]
    assert is_export("shelf://models/one")
    assert not is_export("shelf://models/two")
    description, tensors = read_export("shelf://models/one")
    assert description["note"] == "a"
    assert torch.equal(tensors["weight"], weights["weight"])
    with pytest.raises(ValueError, match="exists and is not empty"):
        write_export({}, weights, "shelf://models/one")


def test_a_run_in_a_store_is_loaded_and_started_from(site: Path) -> None:
    install(site, "fovea_shelf:Shelf")
    short = ["pretrain.steps=1", "probe=null", "policy=null", *TINY]
    short = [word for word in short if not word.startswith(("probe.", "policy."))]
    threads = torch.get_num_threads()
    train(read_recipe("quickstart", [*short, f"run_dir={site / 'run'}", "pretrain.steps=1"]))
    shutil.copytree(site / "run", site / "stored" / "runs" / "one")
    here, there = fovea.load_model(site / "run"), fovea.load_model("shelf://runs/one")
    pairs = zip(here.parameters(), there.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    words = [*short, f"run_dir={site / 'next'}", "init=shelf://runs/one", "pretrain.steps=1"]
    train(read_recipe("quickstart", words))
    torch.set_num_threads(threads)


@pytest.mark.parametrize("scheme", ["s3", "http", "https"])
def test_a_scheme_that_no_plugin_opens_is_one_sentence(scheme: str, site: Path) -> None:
    install(site, "fovea_shelf:Shelf")
    wanted = f"no installed plugin opens {scheme}:// paths; known are shelf://$"
    with pytest.raises(ValueError, match=wanted):
        paths.local(f"{scheme}://bucket/file")


def test_a_path_out_of_a_store_is_refused(site: Path) -> None:
    install(site, "fovea_shelf:Shelf")
    with pytest.raises(ValueError, match=r"'\.\.' is not allowed"):
        paths.local("shelf://models/../../etc/passwd")


def test_a_broken_handler_is_named_and_local_paths_go_on(site: Path) -> None:
    install(site, "fovea_shelf:Missing")
    assert paths.local(site / "a") == site / "a"
    with pytest.raises(ValueError, match=r"left out were shelf \(fovea-shelf 0\.3\): AttributeErr"):
        paths.local("shelf://models/one")


def test_names_below_a_folder_are_joined() -> None:
    assert paths.join("s3://bucket/run/", "probe", "a.pt") == "s3://bucket/run/probe/a.pt"
    assert paths.join("/", "a") == "/a"
    assert paths.join(Path("runs/a"), "b") == "runs/a/b"
