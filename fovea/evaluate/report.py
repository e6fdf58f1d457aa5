"""The report of a run: a table for the terminal, and a page with its pictures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fovea.engine.run import load_data
from fovea.evaluate.measure import Results, gaze_sources, measure
from fovea.recipe import Recipe
from fovea.trained import load_trained
from fovea.viz.curves import plot_accuracy, plot_enlarged
from fovea.viz.glimpses import draw_paths, draw_seen, look

_SHOWN = (1, 2, 4, 8)


def write_report(recipe: Recipe) -> str:
    """Measure a run; write results.json, report.md and pictures to its ``eval`` folder.

    Returns:
        The table, and where the rest lies.
    """
    results = measure(recipe)
    folder = Path(recipe.run_dir) / "eval"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    pictures = _pictures(recipe, results, folder)
    (folder / "report.md").write_text(page(results, pictures), encoding="utf-8")
    shown = ", ".join(file for file, _ in pictures)
    return f"{table(results)}\n\nreport: {folder / 'report.md'}\npictures in {folder}: {shown}"


def table(results: Results) -> str:
    """Set out the results as text."""
    rows = [["accuracy, %", *(f"glimpse {step}" for step in _steps(results)), "gaze on object"]]
    rows += [_gaze_row(name, one, results) for name, one in results["gazes"].items()]
    if "random_init" in results:
        one = results["random_init"]["random"]
        rows.append(_gaze_row("random, network untrained", one, results))
    lines = [f"{results['images']} images ({results['split']} split), seed {results['seed']}", ""]
    lines += _aligned(rows)
    lines += ["", *_aligned(_whole_image_rows(results))]
    if "enlarge" in results:
        lines += ["", *_aligned(_enlarged_rows(results))]
    return "\n".join([*lines, *_pretraining_lines(results)])


def page(results: Results, pictures: Sequence[tuple[str, str]]) -> str:
    """Write the Markdown report with (file, caption) pictures beside it."""
    shown = "\n\n".join(f"![{caption}]({file})\n\n{caption}" for file, caption in pictures)
    title = f"# {results['run_dir']}"
    return f"{title}\n\n```\n{table(results)}\n```\n\n{shown}\n\nAll numbers: results.json\n"


def _pictures(recipe: Recipe, results: Results, folder: Path) -> list[tuple[str, str]]:
    """Draw all pictures; return their files and captions."""
    plot_accuracy(results, folder / "accuracy.png")
    pictures = [
        ("accuracy.png", "Accuracy after each glimpse; bands show the spread over gaze seeds."),
    ]
    if "enlarge" in results:
        plot_enlarged(results, folder / "enlarged.png")
        pictures.append(("enlarged.png", "Accuracy when the same images are enlarged."))
    count = min(recipe.evaluate.pictures, results["images"])
    if count:
        trained = load_trained(Path(recipe.run_dir))
        sources = gaze_sources(recipe, trained, boxes=False)
        gaze = sources.get("policy", sources["random"])
        data = load_data(recipe, recipe.evaluate.split, trained.model.finest_zoom)
        images = [data.sample(index, 0).image for index in range(count)]
        S = recipe.evaluate.glimpses
        looks = [look(trained, image, gaze, S, seed) for seed, image in enumerate(images)]
        draw_paths(looks, folder / "gaze_paths.png")
        draw_seen(looks[:3], folder / "seen.png")
        pictures += [
            ("gaze_paths.png", "Where the policy looked, and its answer at first and at last."),
            ("seen.png", "What the model saw; frames are the windows of the latest glimpse."),
        ]
    return pictures


def _steps(results: Results) -> list[int]:
    last = len(results["gazes"]["random"]["accuracy"])
    return [step for step in _SHOWN if step < last] + [last]


def _gaze_row(name: str, one: dict[str, Any], results: Results) -> list[str]:
    cells = [
        f"{100 * one['accuracy'][step - 1]:.1f} ± {100 * one['spread'][step - 1]:.1f}"
        for step in _steps(results)
    ]
    hits = one["hit_rate"]
    return [name, *cells, "" if hits is None else f"{100 * sum(hits) / len(hits):.0f} %"]


def _whole_image_rows(results: Results) -> list[list[str]]:
    knn = results["knn"]
    rows = [
        ["ViT mode", f"{100 * results['vit']:.1f}"],
        ["kNN, random glimpses", f"{100 * knn['glimpses']:.1f}"],
        ["kNN, ViT mode", f"{100 * knn['vit']:.1f}"],
    ]
    if "random_init" in results:
        untrained = results["random_init"]["vit"]
        rows.insert(1, ["ViT mode, network untrained", f"{100 * untrained:.1f}"])
    return rows


def _enlarged_rows(results: Results) -> list[list[str]]:
    names = {
        "glimpses": "random glimpses",
        "vit": "ViT mode",
        "fixed_pixels": "patches of fixed pixels",
        "fixed_pixels_zoom_known": "... told their zoom",
    }
    factors = results["enlarge"]
    rows = [["images enlarged", *(f"{factor}x" for factor in factors)]]
    for key, name in names.items():
        rows.append([name, *(f"{100 * one[key]:.1f}" for one in factors.values())])
    return rows


def _pretraining_lines(results: Results) -> list[str]:
    values = results["pretraining"]
    if values is None or "log_prototypes" not in values:
        return []
    below = values["log_prototypes"] - values["cross_entropy"]
    lines = [
        "",
        f"pretraining: cross-entropy {values['cross_entropy']:.2f} after {values['steps']} steps, "
        f"{below:.2f} below ln(prototypes); {len(values['warnings'])} collapse warnings",
    ]
    return [*lines, *values["warnings"]]


def _aligned(rows: list[list[str]]) -> list[str]:
    """Set out rows in columns, the first to the left and the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in rows
    ]
