"""Laws of the pictures in docs/concepts.md: the script draws each one, and the page shows it."""

import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DOCS = Path(__file__).parents[1] / "docs"
SHOWN = re.findall(r"\]\(pictures/(concepts_\w+\.png)\)", (DOCS / "concepts.md").read_text())
MOST = 300_000  # bytes


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("concepts")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS / "pictures"))
        photo = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
        import_module("make_concepts").draw_all(photo, folder, dpi=20)
    return folder


def test_the_page_shows_what_the_script_draws(drawn: Path) -> None:
    assert sorted(SHOWN) == sorted(file.name for file in drawn.iterdir())


@pytest.mark.parametrize("name", SHOWN)
def test_picture_in_the_repository_is_the_scripts_and_small(name: str, drawn: Path) -> None:
    file = DOCS / "pictures" / name
    assert file.stat().st_size < MOST
    with Image.open(file) as ours, Image.open(drawn / name) as again:
        shapes = [one.width / one.height for one in (ours, again)]
    assert np.isclose(*shapes, rtol=0.02)
