"""Laws of the benchmarks: what is compared is the same thing, and a missed limit fails."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fovea import create
from fovea.bench import command, extract
from fovea.bench.contenders import extractors, tables
from fovea.bench.limits import EXTRACTION, judge
from fovea.bench.looks import draw_looks, look_at
from fovea.bench.names import (
    BLOCKS,
    COPY,
    CV2_AREA,
    CV2_TABLE,
    DECODE,
    INTEGRAL,
    NAIVE,
    NEAREST,
    ORACLE,
    PIL_BOX,
    TORCH_TABLE,
)
from fovea.bench.photos import decode, jpeg, mosaic, read_photos
from fovea.bench.results import Error, Extraction, Side, break_even, growth_key
from fovea.bench.rivals import rivals
from fovea.bench.timing import Effort, interleave, ratio

SIDES = (224, 448, 1792, 3584, 7168)


def noise(side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i in range(2):
        pixels = noise(80).repeat(3, axis=0).repeat(3, axis=1)
        Image.fromarray(np.roll(pixels, 50 * i, axis=1)).save(folder / f"{i}.jpg", quality=90)
    return folder


def run(*words: str) -> subprocess.CompletedProcess[str]:
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fovea.bench", *words]
    return subprocess.run(command, capture_output=True, text=True, env=one_thread, timeout=120)


def good(side: int) -> Side:
    """Measure, as it were, times that hold every limit."""
    builds = {DECODE: 1.0, NAIVE: 10.0, COPY: 0.1, INTEGRAL: 0.2, CV2_TABLE: 0.2, TORCH_TABLE: 1.0}
    glimpses = {INTEGRAL: 0.01, NEAREST: 0.005, CV2_AREA: 0.3, PIL_BOX: 0.3}
    errors = {INTEGRAL: 1e-7, NEAREST: 1e-2, CV2_AREA: 1e-3, PIL_BOX: 1e-1}
    return Side(
        side,
        {name: [time] for name, time in builds.items()},
        {name: [time] for name, time in glimpses.items()},
        {name: Error(error, error) for name, error in errors.items()},
    )


def holding() -> Extraction:
    growth = {growth_key(n, side): [0.01] for n in (30, 256) for side in SIDES}
    return Extraction(
        sides=tuple(good(side) for side in SIDES),
        growth={**growth, BLOCKS: [1.0]},
        extractors=(INTEGRAL, NEAREST),
        rivals=(CV2_AREA, PIL_BOX),
        preparations={INTEGRAL: INTEGRAL, NEAREST: INTEGRAL, CV2_AREA: "none", PIL_BOX: "none"},
        chosen="integral, exact",
        missing={},
        photos=("0.jpg",),
    )


def changed(side: int, **parts: dict[str, object]) -> Extraction:
    """Replace some of what was measured at one size."""
    run = holding()
    sides = [
        replace(one, **{key: {**getattr(one, key), **new} for key, new in parts.items()})
        if one.side == side
        else one
        for one in run.sides
    ]
    return replace(run, sides=tuple(sides))


def missed(run: Extraction) -> list[str]:
    return [one.name for one in judge(EXTRACTION, run) if not one.holds]


def test_limits_hold_where_everything_is_fast() -> None:
    assert missed(holding()) == []


@pytest.mark.parametrize(
    ("side", "parts"),
    [
        (448, {"builds": {TORCH_TABLE: [2.1]}}),
        (7168, {"builds": {CV2_TABLE: [0.41]}}),
        (1792, {"builds": {NAIVE: [7.9]}}),
        (3584, {"glimpses": {CV2_AREA: [0.14]}}),
        (448, {"glimpses": {NEAREST: [0.0024]}}),
        (224, {"errors": {INTEGRAL: Error(1e-7, 1e-4)}}),
        (448, {"builds": {INTEGRAL: [2.4]}}),  # 8 of the exact alternative take 2.4
    ],
)
def test_a_limit_is_missed_by_a_single_number(side: int, parts: dict[str, dict]) -> None:
    assert len(missed(changed(side, **parts))) == 1


def test_growth_is_limited() -> None:
    run = holding()
    slow = {**run.growth, growth_key(30, 7168): [0.021], growth_key(256, 7168): [0.031]}
    assert len(missed(replace(run, growth=slow))) == 2


def test_what_is_not_installed_or_not_asked_for_was_not_measured() -> None:
    run = holding()
    builds = {name: times for name, times in run.sides[1].builds.items() if name != CV2_TABLE}
    reason = "cv2 is not installed"
    lacking = replace(
        run, sides=(replace(run.sides[1], builds=builds),), missing={CV2_TABLE: reason}
    )
    reasons = {one.name: one.reason for one in judge(EXTRACTION, lacking) if one.measured is None}
    assert reasons["cv2 build / decode, from 448 px"] == reason
    assert reasons["naive cumsum / numpy + torch build, from 1792 px"].startswith(
        "no image of 1792"
    )


@pytest.mark.parametrize(("times", "code"), [([0.3], 0), ([0.001], 1)])
def test_check_fails_on_a_missed_limit(
    times: list[float], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = changed(448, glimpses={CV2_AREA: times})
    monkeypatch.setattr(extract, "measure", lambda settings: results)
    assert command.main(["extract", "--check", "--out", str(tmp_path)]) == code
    assert command.main(["extract", "--out", str(tmp_path)]) == 0
    assert ("MISSED" in (tmp_path / "extraction.md").read_text()) == bool(code)


@pytest.mark.parametrize("ours", [(3.0, 1.0), (0.5, 1.0), (0.0, 3.0), (5.0, 2.0)])
@pytest.mark.parametrize("theirs", [(0.0, 2.0), (1.0, 2.0), (8.0, 1.5)])
def test_break_even_is_the_first_glimpse_that_pays(
    ours: tuple[float, float], theirs: tuple[float, float]
) -> None:
    ahead = [n for n in range(1, 100) if ours[0] + n * ours[1] < theirs[0] + n * theirs[1]]
    said = break_even(ours, theirs)
    if not ahead:
        assert said == "never"
    elif ahead[-1] == 99:
        assert said == str(ahead[0])
    else:
        assert said == f"only to {ahead[-1]}"


def test_every_task_takes_its_turn_and_a_slow_one_fewer() -> None:
    spent = [0.0]
    log: list[str] = []

    def task(name: str, seconds: float) -> Callable[[int], None]:
        def work(unit: int) -> None:
            spent[0] += seconds
            log.append(name)

        return work

    tasks = {"slow": task("slow", 4.0), "fast": task("fast", 0.5)}
    samples = interleave(tasks, Effort(10, fewest=3, seconds=20.0), clock=lambda: spent[0])
    assert samples == {"slow": [4.0] * 5, "fast": [0.5] * 10}
    assert set(log[-5:]) == {"fast"}
    assert {"slow", "fast"} == set(log[6:10])
    few = interleave(tasks, Effort(10, fewest=7, seconds=20.0), clock=lambda: spent[0])
    assert len(few["slow"]) == 7


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    assert ratio({"a": [1.0, 6.0, 4.0], "b": [1.0, 2.0, 1.0, 100.0]}, "a", "b") == 3.0


def test_a_mosaic_shows_photographs_pixel_by_pixel(photos: Path) -> None:
    shown = read_photos(photos)
    image = mosaic(shown, 600)
    first, second = shown.values()
    assert image.shape == (600, 600, 3)
    assert (image[:240, :240] == first).all()
    assert (image[:240, 240:480] == second).all()
    assert (image[240:480] == image[:240][::-1]).all()
    assert (image[:, 480:] == image[:, 360:480][:, ::-1]).all()
    assert (mosaic(shown, 100, first=1) == second[:100, :100]).all()
    assert decode(jpeg(image)).size == (600, 600)


def test_the_oracle_is_the_area_average() -> None:
    image = noise(40)
    scene = create("patch_extractor", "resize", patch_size=4).prepare(image)
    windows = torch.tensor([[[0.47, 0.53, 0.9], [0.3, 0.6, 2.3]]], dtype=torch.float64)
    for patch, (x, y, zoom) in zip(scene.read(windows)[0], windows[0].tolist(), strict=True):
        cell = 40 / 2**zoom / 4
        for row in range(4):
            for column in range(4):
                left, top = 40 * x + (column - 2) * cell, 40 * y + (row - 2) * cell
                total = np.zeros(3)
                for v in range(40):
                    for u in range(40):
                        width = max(0, min(left + cell, u + 1) - max(left, u))
                        height = max(0, min(top + cell, v + 1) - max(top, v))
                        total += width * height * image[v, u]
                expected = total / cell**2 / 255
                np.testing.assert_allclose(patch[:, row, column], expected, atol=1e-6)


EXACT_ON_WHOLE_PIXELS = {CV2_AREA, PIL_BOX, "interpolate area", "roi_align"}
BILINEAR = {"grid_sample", "kornia crop_and_resize"}


def test_everyone_reads_the_same_windows_and_the_exact_ones_agree() -> None:
    image, gaze = noise(512), torch.full((1, 2), 0.5, dtype=torch.float64)
    look = look_at(gaze, 512)  # its cells are of 2, 4, ... 32 whole pixels
    missing: dict[str, str] = {}
    contenders = [*extractors(missing), *tables(missing), *rivals(missing)]
    patches = {one.name: one.read(one.prepare(image), look) for one in contenders}
    names = {one.name for one in contenders}
    assert names >= {INTEGRAL, NEAREST, ORACLE, TORCH_TABLE, PIL_BOX, "grid_sample", "roi_align"}
    assert not names & set(missing)
    for name, one in patches.items():
        assert one.shape == (30, 3, 16, 16), name
        assert one.dtype == torch.float32
        grey_levels = 255 * (one - patches[ORACLE]).abs().max()
        if name.startswith(INTEGRAL):
            assert grey_levels < 1e-3, name
        elif name in EXACT_ON_WHOLE_PIXELS:
            assert grey_levels < 1.01, name  # some round to whole grey levels, Pillow twice
    bilinear = [patches[name] for name in BILINEAR & names]
    for one in bilinear:  # exact on the grid, where a cell is 2 x 2 pixels
        assert torch.allclose(one[5:], patches[ORACLE][5:], atol=1e-4)
        assert torch.allclose(one, bilinear[0], atol=1e-4)


def test_rivals_read_smooth_pictures_almost_alike() -> None:
    slope = np.linspace(0, 255, 400)
    image = np.stack([np.add.outer(slope, slope) / 2] * 3, axis=2).astype(np.uint8)
    missing: dict[str, str] = {}
    looks = draw_looks(4, 400, seed=0)
    oracle = next(one for one in extractors(missing) if one.name == ORACLE)
    for rival in rivals(missing):
        for look in looks:
            expected = oracle.read(oracle.prepare(image), look)
            error = (rival.read(rival.prepare(image), look) - expected)[look.inside]
            assert error.abs().max() < 2 / 255, rival.name


def test_rivals_answer_windows_outside_the_image() -> None:
    look = look_at(torch.tensor([[0.0, 1.0]], dtype=torch.float64), 128)
    assert (look.edges[..., 2] <= 0).any()  # some lie outside altogether
    for rival in rivals({}):
        assert rival.read(rival.prepare(noise(128)), look).shape == (30, 3, 16, 16), rival.name


def test_a_folder_without_photographs_is_refused_in_a_sentence(tmp_path: Path, capsys) -> None:
    assert command.main(["extract", "--photos", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"fovea: {tmp_path}: holds no .jpg or .jpeg files\n"


@pytest.mark.parametrize("words", [["extract", "--sizes", "30"], ["inference", "--sizes", "100"]])
def test_sizes_that_cannot_be_measured_are_refused(words: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(words)
    assert caught.value.code == 2
    assert f"'{words[2]}' is not a" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["extract"], ["inference"]])
def test_help_needs_no_torch(words: list[str]) -> None:
    code = (
        "import sys; from fovea.bench.command import main\n"
        f"try: main({[*words, '--help']!r})\n"
        "finally: assert not {'torch', 'numpy', 'cv2', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: python -m fovea.bench" in done.stdout


@pytest.mark.parametrize(("name", "stem"), [("extract", "extraction"), ("inference", "inference")])
def test_a_quick_run_prints_its_table_and_leaves_three_files(
    name: str, stem: str, photos: Path, tmp_path: Path
) -> None:
    done = run(name, "--quick", "--rounds", "1", "--photos", str(photos), "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    *lines, saved = done.stdout.splitlines()
    assert saved.startswith(f"saved in {tmp_path}")
    assert max(map(len, lines)) <= 120
    assert {file.name for file in tmp_path.iterdir()} == {
        f"{stem}.{e}" for e in ("md", "png", "json")
    }
    tree = json.loads((tmp_path / f"{stem}.json").read_text())
    page = (tmp_path / f"{stem}.md").read_text()
    assert tree["machine"]["processor"] in done.stdout
    assert f"({stem}.png)" in page
    for limit in tree["limits"]:
        assert limit["name"] in done.stdout
        assert limit["name"] in page
