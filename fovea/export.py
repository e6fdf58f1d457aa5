"""Export: ``fovea export RUN_DIR OUT`` writes safetensors and JSON that ``fovea.load_model`` reads.

The student and the teacher come from the newest checkpoint of the pretraining, with the projection
head that belongs to each; the model is what a stage has handed on, with its task heads.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fovea import __version__
from fovea.config import ConfigError, read_yaml, to_tree, validate
from fovea.recipe import STAGES, Recipe
from fovea.train import report

if TYPE_CHECKING:
    from torch import Tensor

    from fovea.trained import Trained

What = Literal["model", "student", "teacher"]
_EPILOG = """\
OUT gets config.json and model.safetensors; fovea.load_model(OUT) reads them, and so does a config's
'init'. With --what student or teacher the projection head comes too, and pretraining may go on from
it elsewhere: --stage is then pretrain.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="fovea export",
        description="Write a trained model as safetensors and JSON.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="folder that fovea.train wrote")
    parser.add_argument("out", metavar="OUT", help="folder to write; new or empty")
    parser.add_argument("--stage", choices=STAGES, help="default: the last that has finished")
    parser.add_argument(
        "--what", choices=("model", "student", "teacher"), default="model", help="default: model"
    )
    parser.add_argument(
        "--best",
        action="store_true",
        help="with --what student or teacher: of the checkpoint with the best online kNN accuracy",
    )
    arguments = parser.parse_args(argv)
    try:
        export(**vars(arguments))
    except ConfigError as error:
        return report(error.lines)
    except (ValueError, OSError) as error:
        return report([str(error)])
    print(f"{arguments.out}: load it with fovea.load_model({arguments.out!r})")
    return 0


def export(
    run_dir: str | Path,
    out: str,
    stage: str | None = None,
    what: What = "model",
    best: bool = False,
) -> None:
    """Write a part of a run to a folder, which may be remote.

    Args:
        run_dir: of the run.
        out: a folder that is new or empty.
        stage: whose model; by default that of the last stage that has finished.
        what: ``model``, what the stage handed on; or ``student`` or ``teacher`` of the pretraining.
        best: take these from the checkpoint with the best online kNN accuracy, not the newest.

    Raises:
        ValueError: there is no such part, a file is damaged, or ``out`` is in use.
        OSError: it cannot be written.
    """
    from fovea.trained import load_trained  # torch is imported only now
    from fovea.weights import is_export, write_export

    if is_export(run_dir):
        raise ValueError(f"{run_dir} is an export, not a run")
    if what == "model":
        if best:
            raise ValueError("--best goes with --what student or teacher")
        trained = load_trained(run_dir, stage)
        write_export(_describe(trained, what), trained.weights(), out)
        return
    if stage not in (None, "pretrain"):
        raise ValueError(f"--what {what}: only the pretrain stage has one, not {stage}")
    trained, extra = _from_pretraining(Path(run_dir), what, best)
    write_export({**_describe(trained, what), **extra}, _with_projection(trained), out)


def _describe(trained: "Trained", what: What) -> dict[str, Any]:
    return {"what": what, "fovea": __version__, **trained.describe()}


def _from_pretraining(run_dir: Path, what: What, best: bool) -> tuple["Trained", dict[str, Any]]:
    """Read the student or the teacher, and which settings and step it is of."""
    import torch

    from fovea.model import assemble
    from fovea.trained import Trained

    recipe = _recipe(run_dir)
    if recipe.pretrain is None:
        raise ValueError(f"{run_dir} has no pretraining, and so no {what}")
    contents = _checkpoint(run_dir / "pretrain", best)
    backbone, head = ("teacher", "teacher_head") if what == "teacher" else ("student", "head")
    weights = _below(f"objective.{backbone}.", contents["stage"])
    if not weights:
        name = recipe.pretrain.objective.name
        raise ValueError(f"the objective {name} of {run_dir} keeps no network called {backbone}")
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)  # the policy is the one that the run began with
        model = assemble(recipe.model)
    projection = _below(f"objective.{head}.", contents["stage"])
    trained = Trained(model, projection=projection or None)
    policy = {f"model.policy.{name}": one for name, one in model.policy.state_dict().items()}
    named = {f"model.backbone.{name}": one for name, one in weights.items()}
    trained.load_weights({**named, **policy}, f"the checkpoint in {run_dir / 'pretrain'}")
    extra = {"step": contents["step"], "objective": to_tree(recipe.pretrain.objective)}
    return trained, extra


def _checkpoint(folder: Path, best: bool) -> dict[str, Any]:
    from fovea.engine.checkpoint import BEST, load_file, load_newest

    if best:
        if not (folder / BEST).is_file():
            raise ValueError(f"{folder} has no {BEST}; set 'online' to measure beside training")
        return load_file(folder / BEST)
    contents, _ = load_newest(folder)
    if contents is None:
        raise ValueError(f"{folder} has no checkpoint yet")
    return contents


def _with_projection(trained: "Trained") -> dict[str, "Tensor"]:
    from fovea.trained import PROJECTION

    projection = {PROJECTION + name: one for name, one in (trained.projection or {}).items()}
    return {**trained.weights(), **projection}


def _below(prefix: str, weights: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    return {
        name.removeprefix(prefix): one for name, one in weights.items() if name.startswith(prefix)
    }


def _recipe(run_dir: Path) -> Recipe:
    file = run_dir / "config.yaml"
    if not file.is_file():
        raise ValueError(f"{run_dir}: no run (it has no config.yaml); train one first")
    return validate(Recipe, read_yaml(file))
