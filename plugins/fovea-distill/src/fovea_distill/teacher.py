"""The teacher: a frozen timm ViT, and its dense features."""

import hashlib
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fovea.engine.checkpoint import misfit

TIMM, RANDOM = "timm", "random"


class Teacher:
    """A frozen timm ViT of any input size, in evaluation mode.

    It is no ``nn.Module``, so that whoever holds it neither trains nor saves it; it follows the
    images to their device.

    Args:
        name: for ``timm.create_model``.
        weights: ``timm``, ``random`` or a file, see ``DistillConfig``.

    Attributes:
        width: channels of a feature.

    Raises:
        ValueError: timm has no such model, it is no ViT for images of any size, or its weights
            cannot be had or do not fit.
    """

    def __init__(self, name: str, weights: str):
        self.name = name
        self.model = _load(name, weights).requires_grad_(False).eval()
        self.width: int = self.model.num_features
        self._mean = torch.tensor(self.model.pretrained_cfg["mean"])[:, None, None]
        self._std = torch.tensor(self.model.pretrained_cfg["std"])[:, None, None]

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Map images [B, C, H, W] in 0..1 -> [B, width, h, w], float32: its last layer, normalised.

        Grey images are repeated to three channels.

        Raises:
            ValueError: the images' sides are no multiples of the model's patch side.
        """
        self._check_side(*images.shape[-2:])
        self._move(images.device)
        colour = images.expand(-1, 3, -1, -1)
        pixels = (colour - self._mean) / self._std
        maps: list[Tensor] = self.model.forward_intermediates(
            pixels, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return maps[-1].float()

    def _move(self, device: torch.device) -> None:
        """Go to a device once, and stay there."""
        self.model.to(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)

    def digest(self) -> Tensor:
        """Tell its weights from any others: sha256 of their names and bytes, uint8 [32]."""
        digest = hashlib.sha256(self.name.encode())
        for name, value in self.model.state_dict().items():
            digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
            digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())
        return torch.tensor(list(digest.digest()), dtype=torch.uint8)

    def _check_side(self, height: int, width: int) -> None:
        down, right = self.model.patch_embed.patch_size
        if height % down or width % right:
            raise ValueError(
                f"objective.view.grid: {self.name} has patches of {down} x {right} pixels, which do"
                f" not divide a view of {height} x {width}; choose another grid"
            )


def _load(name: str, weights: str) -> Any:
    """Make the model with its weights; torch's global random state is left as it was.

    Random weights are those of one fixed seed: a run that goes on has the same teacher again.
    """
    if not timm.is_model(name.partition(".")[0]):
        near = get_close_matches(name.partition(".")[0], timm.list_models(), n=3)
        hint = f"; similar are {', '.join(near)}" if near else ""
        raise ValueError(f"objective.teacher: timm has no model '{name}'{hint}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _create(name, pretrained=weights == TIMM)
    if weights not in (TIMM, RANDOM):
        _fill(model, Path(weights))
    return model


def _create(name: str, pretrained: bool) -> Any:
    other = f"objective.teacher: '{name}' is no ViT that takes images of any size"
    try:
        model = timm.create_model(name, pretrained, num_classes=0, dynamic_img_size=True)
    except TypeError as error:  # how timm refuses a setting that a model does not have
        raise ValueError(other) from error
    except Exception as error:  # the hub's client raises what its transport does
        reason = " ".join(str(error).split()).rstrip(".")
        hint = "; fetch its weights where there is a network, or give a .safetensors file"
        raise ValueError(
            f"objective.teacher: timm cannot make '{name}': {reason}{hint if pretrained else ''}"
        ) from error
    if not {"forward_intermediates", "num_prefix_tokens"} <= set(dir(model)):  # such as a Swin
        raise ValueError(other)
    return model


def _fill(model: Any, file: Path) -> None:
    """Load a file's weights, all of them; a classifier's are passed over."""
    if file.suffix != ".safetensors" or not file.is_file():
        raise ValueError(
            f"objective.weights: {file} is no file; expected timm, random or a .safetensors file"
        )
    try:
        found = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"objective.weights: {file} is damaged: {error}") from error
    found = _without_classifier(found, model.pretrained_cfg.get("classifier") or ())
    if wrong := misfit(found, model.state_dict()):
        raise ValueError(f"objective.weights: {file} does not fit the teacher: {wrong}")
    model.load_state_dict(found)


def _without_classifier(
    weights: Mapping[str, Tensor], classifier: str | Collection[str]
) -> dict[str, Tensor]:
    """Leave out a classifier's layer, or layers: those of DeiT are two."""
    names = {classifier} if isinstance(classifier, str) else set(classifier)
    return {key: one for key, one in weights.items() if key.rpartition(".")[0] not in names}
