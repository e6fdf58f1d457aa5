"""Evaluate: ``python -m fovea.eval RUN_DIR [key=value ...]``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fovea.config import ConfigError, merge, parse_overrides, read_yaml, validate
from fovea.recipe import Recipe
from fovea.train import report

_EPILOG = """\
key=value changes a setting of the config's 'evaluate' section, e.g. split=val gaze_seeds=5.
Writes results.json, report.md and its pictures to RUN_DIR/eval.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fovea.eval",
        description="Measure a trained run: accuracy per glimpse, kNN, image size.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="folder that fovea.train wrote")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="changed settings")
    arguments = parser.parse_intermixed_args(argv)
    try:
        recipe = _recipe(Path(arguments.run_dir), arguments.overrides)
    except ConfigError as error:
        return report(error.lines)
    from fovea.engine.out_of_memory import explained  # torch is imported only now
    from fovea.engine.run import pick_device
    from fovea.engine.stopping import TrainingError
    from fovea.evaluate.report import write_report

    smaller = [f"an evaluate.batch_size below {recipe.evaluate.batch_size}"]
    try:
        with explained("evaluate", smaller, pick_device(recipe.device)):
            print(write_report(recipe))
    except ConfigError as error:
        return report(error.lines)
    except (ValueError, OSError) as error:
        return report([str(error)])
    except TrainingError as error:
        report([str(error)])
        return 1
    return 0


def _recipe(run_dir: Path, overrides: Sequence[str]) -> Recipe:
    """Read the config that the run was trained with; the folder may have moved."""
    file = run_dir / "config.yaml"
    if not file.is_file():
        raise ConfigError([f"{run_dir}: no run (it has no config.yaml); train one first"])
    changed = {"run_dir": str(run_dir), "evaluate": parse_overrides(overrides)}
    return validate(Recipe, merge(read_yaml(file), changed))


if __name__ == "__main__":
    sys.exit(main())
