"""The alternative: multi-crop DINO of the same ViT, from lightly's loss, head and transforms.

It has our optimiser, our way to average and our precision, so that the methods are compared, and
nothing else. Images are decoded, cropped, resized and augmented by Pillow in worker processes.
lightly, which is optional, is imported where it is used.
"""

import copy
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import timm
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from fovea.backbone.config import TimmViTConfig
from fovea.bench.train_recipe import objective_config
from fovea.config import number
from fovea.objective.config import HeadConfig
from fovea.recipe import Recipe

_MOMENTUM = 0.996
_STEPS = 10**6  # more than are ever made

if TYPE_CHECKING:
    from lightly.models.modules.heads import DINOProjectionHead

Views = list[Tensor]
"""Crops [B, 3, side, side], float32 and normalised: two global ones, then the locals."""


class Dino(nn.Module):
    """The networks, and the loss of a batch.

    Args:
        recipe: whose ViT, head and numbers of views it takes.
    """

    def __init__(self, recipe: Recipe):
        from lightly.loss import DINOLoss

        super().__init__()
        config, vit = objective_config(recipe), recipe.model.backbone.settings
        assert isinstance(vit, TimmViTConfig)
        patch, head = recipe.model.patch_size, config.head
        self.sides = (patch * config.global_crop.grid, patch * config.local_crop.grid)
        self.student = _plain(vit, self.sides[0], patch)
        self.head = _head(self.student.embed_dim, head)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False).eval()
        self.teacher_head = _head(self.student.embed_dim, head).requires_grad_(False)
        self.teacher_head.load_state_dict(self.head.state_dict())
        self.loss = DINOLoss(self.head.last_layer.out_features)

    def forward(self, views: Views) -> Tensor:
        """Compute the loss; crops of one size go through the student together."""
        globals_, locals_ = torch.cat(views[:2]), torch.cat(views[2:])
        with torch.no_grad():
            targets = self.teacher_head(self.teacher(globals_))
        features = torch.cat([self.student(globals_), self.student(locals_)])
        outputs = self.head(features)
        loss: Tensor = self.loss(list(targets.chunk(2)), list(outputs.chunk(len(views))))
        return loss

    @torch.no_grad()
    def update(self) -> None:
        """Move the teacher towards the student."""
        pairs = ((self.teacher, self.student), (self.teacher_head, self.head))
        for average, trained in pairs:
            weights = list(average.parameters()), list(trained.parameters())
            torch._foreach_lerp_(*weights, 1 - _MOMENTUM)


class DinoTraining:
    """DINO's step, and its batches.

    Args:
        recipe: see ``Dino``; also batch size, precision, workers.
        device: where it trains.
    """

    def __init__(self, recipe: Recipe, device: torch.device):
        assert recipe.pretrain is not None
        self.recipe, self.device = recipe, device
        self.batch_size = recipe.pretrain.batch_size
        self.clip = recipe.pretrain.optimizer.clip
        self.networks = Dino(recipe).to(device)
        self.optimizer = _optimizer(self.networks)
        settings = recipe.data.settings.model_dump()
        self.files = sorted(Path(settings["root"]).glob("*.jpg"))

    def batches(self) -> Generator[Views]:
        """Read images and crop them, in the recipe's worker processes; move them to the device."""
        config = objective_config(self.recipe)
        data = Crops(self.files, *self.networks.sides, config.locals)
        sampler = RandomSampler(data, num_samples=_STEPS * self.batch_size)
        workers = self.recipe.workers
        for views in DataLoader(data, self.batch_size, sampler=sampler, num_workers=workers):
            yield [view.to(self.device) for view in views]

    def ready(self) -> Views:
        """Make a batch of views, on the device, with nothing in them."""
        (large, small), B = self.networks.sides, self.batch_size
        sides = [large] * 2 + [small] * objective_config(self.recipe).locals
        return [torch.randn(B, 3, side, side, device=self.device) for side in sides]

    def step(self, views: Views) -> None:
        """Make one optimiser step."""
        reduced = self.recipe.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=reduced):
            loss = self.networks(views)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for part in (self.networks.student, self.networks.head):
            torch.nn.utils.clip_grad_norm_(part.parameters(), self.clip)
        self.optimizer.step()
        self.networks.update()


class Crops(Dataset[Views]):
    """Two global crops of each image and some local ones, as lightly's transform makes them."""

    def __init__(self, files: list[Path], large: int, small: int, locals: int):
        from lightly.transforms.dino_transform import DINOTransform

        self.files = files
        self.transform = DINOTransform(
            global_crop_size=large,
            global_crop_scale=(0.32, 1.0),
            local_crop_size=small,
            local_crop_scale=(0.05, 0.32),
            n_local_views=locals,
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Views:
        with Image.open(self.files[index]) as picture:
            return cast(Views, self.transform(picture.convert("RGB")))


def _plain(vit: TimmViTConfig, side: int, patch: int) -> VisionTransformer:
    sizes = {
        "embed_dim": vit.width,
        "depth": vit.depth,
        "num_heads": vit.heads,
        "init_values": vit.layer_scale,
    }
    return timm.create_model(
        vit.arch,
        img_size=side,
        patch_size=patch,
        num_classes=0,
        drop_path_rate=vit.drop_path,
        dynamic_img_size=True,  # local crops are smaller
        **{key: value for key, value in sizes.items() if value is not None},
    )


def _head(width: int, config: HeadConfig) -> "DINOProjectionHead":
    """Make a head; the length of its prototypes learns, as in ours."""
    from lightly.models.modules.heads import DINOProjectionHead

    prototypes = number(config.prototypes, "prototypes")
    sizes = (config.hidden, config.bottleneck, prototypes, config.batch_norm)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of weight_norm
        return DINOProjectionHead(width, *sizes, norm_last_layer=False)


def _optimizer(networks: nn.Module) -> torch.optim.AdamW:
    trained = [one for one in networks.parameters() if one.requires_grad]
    groups = [
        {"params": [one for one in trained if one.ndim > 1], "weight_decay": 0.04},
        {"params": [one for one in trained if one.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1e-4, fused=True)
