"""What a stage hands on: the model with its trained parts, as one object and as one file."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from fovea import paths
from fovea.config import Component, Part, Section, to_tree, validate
from fovea.engine.checkpoint import DamagedFile, load_file, misfit, save_file
from fovea.model import FovealModel, assemble
from fovea.parts import part
from fovea.recipe import STAGES, ModelConfig
from fovea.weights import is_export, read_export

FILE = "trained.pt"
GLIMPSE, VIT = "glimpse", "vit"
PROJECTION = "projection."


class _Head(Section):
    head: Annotated[Component, Part("task_head")]


@dataclass(frozen=True)
class Trained:
    """A model and, from the probe stage on, its task heads.

    Attributes:
        model: with the policy that was trained last.
        heads: ``glimpse`` and ``vit``, or none yet.
        head: what the heads are, or None yet.
        classes: names of the classes.
        projection: weights of the head from which pretraining may go on, where an export has it.
    """

    model: FovealModel
    heads: nn.ModuleDict | None = None
    head: Component | None = None
    classes: tuple[str, ...] = ()
    projection: Mapping[str, Tensor] | None = None

    def with_heads(self, head: Component, classes: tuple[str, ...]) -> "Trained":
        """Add fresh heads."""
        backbone = self.model.backbone
        sizes = {"width": backbone.width, "num_state_tokens": backbone.num_state_tokens}
        heads = nn.ModuleDict(
            {
                mode: part("task_head", head, **sizes, num_classes=len(classes))
                for mode in (GLIMPSE, VIT)
            }
        )
        return replace(self, heads=heads, head=head, classes=classes)

    def with_policy(self, policy: Component) -> "Trained":
        """Put a fresh policy in place of the old."""
        old = self.model
        sizes = {
            "width": old.backbone.width,
            "num_state_tokens": old.backbone.num_state_tokens,
        }
        model = FovealModel(
            old.config.model_copy(update={"policy": policy}),
            old.extractor,
            old.context,
            old.vit_context,
            old.backbone,
            part("gaze_policy", policy, **sizes),
        )
        return replace(self, model=model)

    def to(self, device: torch.device) -> "Trained":
        """Move model and heads to a device."""
        self.model.to(device)
        if self.heads is not None:
            self.heads.to(device)
        return self

    def save(self, file: Path) -> None:
        """Write the weights, and what is needed to build their modules."""
        save_file({**self.describe(), "weights": self.weights()}, file)

    def describe(self) -> dict[str, Any]:
        """Say what its modules are, in plain values."""
        return {
            "model": to_tree(self.model.config),
            "head": to_tree(self.head) if self.head else None,
            "classes": list(self.classes),
        }

    def weights(self) -> dict[str, Tensor]:
        """Name all its weights: ``model.*``, and ``heads.*`` where there are any."""
        return dict(self._modules().state_dict())

    def load_weights(self, weights: Mapping[str, Tensor], source: str) -> None:
        """Load what ``weights`` gave.

        Raises:
            DamagedFile: they are those of other modules.
        """
        modules = self._modules()
        if wrong := misfit(weights, modules.state_dict()):
            raise DamagedFile(f"{source} does not fit the model that it describes: {wrong}")
        modules.load_state_dict(weights)

    def _modules(self) -> nn.ModuleDict:
        modules: dict[str, nn.Module] = {"model": self.model}
        if self.heads is not None:
            modules["heads"] = self.heads
        return nn.ModuleDict(modules)


def load_trained(source: str | Path, stage: str | None = None) -> Trained:
    """Load what a stage of a run (by default the last finished) handed on, or what was exported.

    Args:
        source: a run_dir, or a folder that ``fovea export`` wrote; it may be remote.
        stage: of a run.

    Returns:
        The model and its heads, in evaluation mode, on the CPU.

    Raises:
        ValueError: no stage has finished, or a file is damaged.
    """
    if stage is None and is_export(source):
        contents, weights = read_export(source)
        file = str(source)
    else:
        file = _finished(source, stage)
        contents = load_file(paths.local(file))
        weights = contents.get("weights", {})
    trained = _build(contents, file)
    projection = {name: one for name, one in weights.items() if name.startswith(PROJECTION)}
    trained.load_weights({n: one for n, one in weights.items() if n not in projection}, file)
    stripped = {name.removeprefix(PROJECTION): one for name, one in projection.items()}
    return replace(trained, projection=stripped or None)


def anywhere(model: Mapping[str, Any]) -> dict[str, Any]:
    """Leave the attention of a model's config to the machine: weights know nothing of xformers."""
    backbone = dict(model["backbone"])
    if backbone.get("attention") == "xformers":
        backbone["attention"] = "auto"
    return {**model, "backbone": backbone}


def _finished(run_dir: str | Path, stage: str | None) -> str:
    stages = [stage] if stage else reversed(STAGES)
    files = [paths.join(run_dir, name, FILE) for name in stages]
    file = next((file for file in files if paths.is_file(file)), None)
    if file is None:
        raise ValueError(f"{run_dir} holds no finished stage (no {FILE} in {', '.join(STAGES)})")
    return file


def _build(contents: Mapping[str, Any], source: str) -> Trained:
    """Make the modules that a file describes, with fresh weights, in evaluation mode."""
    try:
        config = validate(ModelConfig, anywhere(contents["model"]), "model.")
        trained = Trained(assemble(config))
        if contents["head"] is None:
            return trained
        head = validate(_Head, {"head": contents["head"]}).head
        trained = trained.with_heads(head, tuple(contents["classes"]))
    except (ValueError, LookupError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise DamagedFile(f"{source} describes no model of this version: {reason}") from error
    assert trained.heads is not None
    trained.heads.eval()
    return trained
