"""Train: ``python -m fovea.train CONFIG [key=value ...]``."""

import argparse
import sys
from collections.abc import Sequence

from fovea.config import ConfigError
from fovea.recipe import STAGES, read_recipe

_EPILOG = """\
CONFIG is a YAML file, or the name of one that ships with fovea, such as 'quickstart'.
key=value changes one setting of it, e.g. seed=1 pretrain.batch_size=32 data.root=/images.
Run the same command again to go on after an interruption. Exit codes: 0 done, 1 training
failed, 2 the config or the data is wrong, 75 stopped by SIGTERM or SIGUSR1 and saved, 130 by
Ctrl-C and saved.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fovea.train",
        description=f"Train the stages of a config: {', '.join(STAGES)}.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", metavar="CONFIG", help="YAML file, or name of a shipped one")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="changed settings")
    arguments = parser.parse_intermixed_args(argv)
    try:
        recipe = read_recipe(arguments.config, arguments.overrides)
    except ConfigError as error:
        return report(error.lines)
    from fovea.engine.run import train  # torch is imported only now
    from fovea.engine.stopping import Interrupted, TrainingError

    try:
        train(recipe)
    except ConfigError as error:
        return report(error.lines)
    except (ValueError, OSError) as error:
        return report([str(error)])
    except TrainingError as error:
        report([str(error)])
        return 1
    except Interrupted as error:
        report([f"{error}; the same command goes on from here"])
        return error.exit_code
    print(f"done; everything is in {recipe.run_dir}")
    return 0


def report(lines: Sequence[str]) -> int:
    """Print what is wrong to stderr, a line each; return the exit code for a user's mistake."""
    for line in lines:
        print(f"fovea: {line}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
