"""A plain timm ViT as a foveal backbone: state tokens for CLS, an MLP for the position table."""

from collections.abc import Callable
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from fovea.backbone.attention import KernelAttention
from fovea.backbone.choice import Choice, Heads, choose
from fovea.backbone.config import TimmViTConfig
from fovea.backbone.position import PositionMLP
from fovea.interfaces import Backbone, Scene, normalise

_PLAIN = ("timm.models.vision_transformer", "timm.models.deit")
"""Where timm keeps plain ViTs; the models of other files do not even take the same settings."""


class TimmViT(Backbone):
    """Backbone ``timm_vit``: any plain timm ViT by name. Paper, section 4.

    ``patch_embed``, ``blocks`` and ``norm`` are timm's own modules under timm's own names, so its
    weights load. CLS token, registers, position table and classifier are left out; the state
    tokens and the position MLP are new.

    Raises:
        ValueError: timm does not know the arch, or it is no plain ViT; or xformers is asked for
            and does not run here.
    """

    Config = TimmViTConfig
    _mean: Tensor
    _std: Tensor
    _compiled: Callable[..., Tensor] | None = None

    def __init__(self, config: TimmViTConfig, *, patch_size: int, channels: int):
        super().__init__()
        if not len(config.mean) == len(config.std) == channels:
            raise ValueError(
                f"backbone.mean and backbone.std need {channels} values each, one per channel"
            )
        if config.width and config.heads and config.width % config.heads:
            raise ValueError(
                f"backbone.heads: {config.heads} does not divide the width {config.width}"
            )
        vit = _plain_vit(config, patch_size, channels)
        self.width: int = vit.embed_dim
        self.num_state_tokens = config.state_tokens
        self.mean, self.std = config.mean, config.std
        self.patch_embed = vit.patch_embed
        self.position = PositionMLP(self.width)
        self.blocks = vit.blocks
        self.norm = vit.norm
        self.state_tokens = nn.Parameter(torch.empty(config.state_tokens, self.width))
        nn.init.trunc_normal_(self.state_tokens, std=0.02 if config.init == "timm" else 0.2)
        if config.init == "xavier":
            self.apply(_xavier)
        self.register_buffer("_mean", torch.tensor(config.mean), persistent=False)
        self.register_buffer("_std", torch.tensor(config.std), persistent=False)
        self.config = config
        self._run_by(Choice("sdpa", "not measured yet"))
        if config.attention != "auto":
            self.tune(())

    def initial_state(self, batch: int) -> Tensor:
        """Return the learned state tokens [batch, K, D]."""
        return self.state_tokens.expand(batch, -1, -1)

    def forward(self, patches: Tensor, windows: Tensor, state: Tensor) -> Tensor:
        """See: patches [B, N, C, P, P], windows [B, N, 3], state [B, K, D] -> state [B, K, D].

        Whoever runs a sequence detaches the state between glimpses; the learned first state is
        given as it is, so that it learns.
        """
        return self.see(normalise(patches, self._mean, self._std), windows, state)

    def read(self, scene: Scene, windows: Tensor) -> Tensor:
        """Read normalised pixels: windows [B * G, N, 3] of B images -> [B * G, N, C*P*P]."""
        device = windows.device.type
        cast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if cast else torch.float32
        grouped = windows.reshape(len(scene), -1, 3)
        pixels = scene.tokens(grouped, self._mean, self._std, dtype)  # [B, G * N, C*P*P]
        return pixels.reshape(*windows.shape[:2], -1)

    def see(self, pixels: Tensor, windows: Tensor, state: Tensor) -> Tensor:
        """See normalised pixels [B, N, C*P*P] at windows [B, N, 3], state [B, K, D] -> state.

        All that it computes; ``compile`` compiles this, whoever calls it.
        """
        see = self._see if self._compiled is None else self._compiled
        return see(pixels, windows, state)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile ``see``, and so ``forward`` and ``look``; arguments are those of torch.compile.

        As with any module, a copy of it, or what a pickle brings back, is not compiled.
        """
        self._compiled = torch.compile(self._see, *args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_compiled": None}  # type: ignore[no-untyped-call]

    def _see(self, pixels: Tensor, windows: Tensor, state: Tensor) -> Tensor:
        # The positions are float32, and so are the sums: in bfloat16 neighbours would be one.
        tokens = self._project(pixels) + self.position(windows)
        tokens = torch.cat([state.to(tokens.dtype), tokens], dim=1)  # [B, K + N, D]
        for block in self.blocks:
            tokens = block(tokens)
        seen: Tensor = self.norm(tokens[:, : self.num_state_tokens])
        return seen

    def embed(self, patches: Tensor) -> Tensor:
        """Embed patches [B, N, C, P, P] -> [B, N, D]."""
        return self._project(normalise(patches, self._mean, self._std))

    def _project(self, pixels: Tensor) -> Tensor:
        """Embed pixels [B, N, C*P*P] -> [B, N, D]: PatchEmbed's convolution as one product."""
        convolution = self.patch_embed.proj
        tokens = F.linear(pixels, convolution.weight.flatten(1), convolution.bias)
        embedded: Tensor = self.patch_embed.norm(tokens)
        return embedded

    def tune(self, windows: tuple[int, ...]) -> None:
        """Choose the attention kernel, where the setting is ``auto`` by timing passes."""
        attention = self.blocks[0].attn
        heads = Heads(attention.num_heads, attention.head_dim)
        tokens = tuple(self.num_state_tokens + count for count in windows)
        device = torch.device("cuda") if torch.cuda.is_available() else None
        self._run_by(choose(self.config.attention, heads, tokens, device))

    def describe(self, device: torch.device | str | None = None) -> str:
        """Say what attention runs by on a device, and why."""
        return f"timm_vit, {self.config.arch}: {self.choice.on(torch.device(device or 'cpu'))}"

    def _run_by(self, choice: Choice) -> None:
        self.choice = choice
        for block in self.blocks:
            block.attn.kernel = choice.kernel

    def no_weight_decay(self) -> set[str]:
        """Spare the state tokens."""
        return {"state_tokens"}

    def layers(self) -> list[nn.Module]:
        """Return the transformer's blocks."""
        return list(self.blocks)


def _plain_vit(config: TimmViTConfig, patch_size: int, channels: int) -> VisionTransformer:
    """Let timm build the ViT; refuse those whose forward is more than embed, blocks, norm."""
    if not timm.is_model(config.arch):
        near = timm.list_models(f"{config.arch.split('_patch')[0]}*")[:3]
        hint = f"; similar are {', '.join(near)}" if near else ""
        raise ValueError(f"backbone.arch: timm has no model '{config.arch}'{hint}")
    no_plain = f"'{config.arch}' is no plain ViT (patch embedding, blocks, final norm)"
    if timm.models.model_entrypoint(config.arch).__module__ not in _PLAIN:
        raise ValueError(f"backbone.arch: {no_plain}")
    sizes = {
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.heads,
        "init_values": config.layer_scale,
    }
    chosen = {key: value for key, value in sizes.items() if value is not None}
    vit = timm.create_model(
        config.arch,
        pretrained=config.pretrained,
        num_classes=0,
        patch_size=patch_size,
        in_chans=channels,
        drop_path_rate=config.drop_path,
        attn_layer=KernelAttention,
        **chosen,
    )
    plain = type(vit) is VisionTransformer and isinstance(vit.norm_pre, nn.Identity)
    if not plain or isinstance(vit.norm, nn.Identity):
        raise ValueError(f"backbone.arch: {no_plain}")
    return vit


def _xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
