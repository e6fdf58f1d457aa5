"""What a stage hands on: the model with its trained parts, as one object and as one file."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import nn

from fovea.config import Component, Part, Section, to_tree, validate
from fovea.engine.checkpoint import load_file, save_file
from fovea.model import FovealModel, assemble
from fovea.parts import part
from fovea.recipe import STAGES, ModelConfig

FILE = "trained.pt"
GLIMPSE, VIT = "glimpse", "vit"


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
    """

    model: FovealModel
    heads: nn.ModuleDict | None = None
    head: Component | None = None
    classes: tuple[str, ...] = ()

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
        contents: dict[str, Any] = {
            "format": 1,
            "model": to_tree(self.model.config),
            "head": to_tree(self.head) if self.head else None,
            "classes": list(self.classes),
            "weights": self.model.state_dict(),
            "head_weights": self.heads.state_dict() if self.heads else None,
        }
        save_file(contents, file)


def load_trained(run_dir: Path, stage: str | None = None) -> Trained:
    """Load what a stage of a run (by default the last finished) handed on, in evaluation mode.

    Raises:
        ValueError: no stage has finished, or the file is damaged.
    """
    stages = [stage] if stage else reversed(STAGES)
    files = [run_dir / name / FILE for name in stages]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise ValueError(f"{run_dir} holds no finished stage (no {FILE} in {', '.join(STAGES)})")
    contents = load_file(file)
    model = assemble(validate(ModelConfig, contents["model"], "model."))
    trained = Trained(model)
    if contents["head"]:
        head = validate(_Head, {"head": contents["head"]}).head
        trained = trained.with_heads(head, tuple(contents["classes"]))
        assert trained.heads is not None
        trained.heads.load_state_dict(contents["head_weights"])
        trained.heads.eval()
    model.load_state_dict(contents["weights"])
    return trained
