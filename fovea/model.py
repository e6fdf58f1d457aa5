"""The foveal model: from images of any sizes to states, by glimpses or in one ViT pass."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fovea.draws import draw
from fovea.images import Images
from fovea.interfaces import Backbone, ContextBuilder, GazePolicy, PatchExtractor, Scene
from fovea.parts import part
from fovea.recipe import ModelConfig


@dataclass(frozen=True)
class Output:
    """What a model saw in S glimpses.

    Attributes:
        embedding: [B, D], state token 0 after the last glimpse.
        states: [B, S, K, D], the state after each glimpse.
        gazes: [B, S, 2], (x, y) in 0..1.
    """

    embedding: Tensor
    states: Tensor
    gazes: Tensor


@dataclass(frozen=True)
class _Captured:
    """What ``FovealModel.compile`` made of the parts of a glimpse and of ViT mode."""

    windows: Callable[[Tensor, Tensor], Tensor]
    vit_windows: Callable[[Tensor, Tensor], Tensor]
    see: Callable[[Tensor, Tensor, Tensor], Tensor]


class FovealModel(nn.Module):
    """An extractor, a context, a backbone and a gaze policy, working together. Paper, section 2.

    Args:
        config: what it was assembled from; ``fovea.recipe.ModelConfig``.
        extractor: builds scenes.
        context: windows of a glimpse.
        vit_context: windows of the ViT mode.
        backbone: the transformer.
        policy: where to look.
    """

    _captured: _Captured | None = None

    def __init__(
        self,
        config: ModelConfig,
        extractor: PatchExtractor,
        context: ContextBuilder,
        vit_context: ContextBuilder,
        backbone: Backbone,
        policy: GazePolicy,
    ):
        super().__init__()
        self.config = config
        self.extractor = extractor
        self.context = context
        self.vit_context = vit_context
        self.backbone = backbone
        self.policy = policy

    def forward(
        self, images: Images, glimpses: int = 8, generator: torch.Generator | None = None
    ) -> Output:
        """Look at images S times, where the policy says; see ``Output``.

        Args:
            images: a PIL image, uint8 array [H, W, C] or tensor [C, H, W], or a list, any sizes;
                a path where the extractor is ``pyramid``.
            glimpses: S.
            generator: draws the gazes; without it, torch's global random state does.
        """
        if glimpses < 1:
            raise ValueError(f"glimpses must be at least 1, got {glimpses}")
        scene = self.prepare(images)
        policy, state = self.policy.begin(scene), self.initial_state(len(scene))
        states, gazes = [], []
        for _ in range(glimpses):
            gaze = draw(policy(state), generator)
            policy.observe(gaze)
            state = self.glimpse(scene, gaze, state)
            states.append(state)
            gazes.append(gaze)
            state = state.detach()
        return Output(states[-1][:, 0], torch.stack(states, 1), torch.stack(gazes, 1))

    def prepare(self, images: Images) -> Scene:
        """Prepare images for glimpses: the only work that grows with their size."""
        return self.extractor.prepare(images, self.device)

    def initial_state(self, batch: int) -> Tensor:
        """Return the state before the first glimpse [batch, K, D]."""
        return self.backbone.initial_state(batch)

    def glimpse(self, scene: Scene, gaze: Tensor, state: Tensor) -> Tensor:
        """Look once: gaze [B, 2], state [B, K, D] -> state [B, K, D].

        With a gaze and a state for each of G traces per image, [B * G, ...] image by image, all
        traces read the same scene.

        Raises:
            ValueError: gaze and state do not fit the scene.
        """
        if len(gaze) != len(state) or len(gaze) % len(scene):
            raise ValueError(
                f"gaze has {len(gaze)} rows and state {len(state)}; the scene's {len(scene)} images"
                " need one of each, or as many for every image"
            )
        traces = len(gaze) // len(scene)
        sizes = scene.sizes if traces == 1 else scene.sizes.repeat_interleave(traces, 0)
        lay = self._windows if self._captured is None else self._captured.windows
        return self.see(scene, lay(gaze, sizes), state)

    def see(self, scene: Scene, windows: Tensor, state: Tensor) -> Tensor:
        """See windows [B * G, N, 3] of B images with state [B * G, K, D] -> state [B * G, K, D]."""
        if self._captured is None:
            return self.backbone.look(scene, windows, state)
        pixels = self.backbone.read(scene, windows)  # no part of a graph, which would copy a scene
        return self._captured.see(pixels, windows, state)

    def vit(self, images: Images) -> Tensor:
        """Look at whole images at once, as a plain ViT does -> [B, D]."""
        return self.vit_state(self.prepare(images))[:, 0]

    def vit_state(self, scene: Scene) -> Tensor:
        """Look at a whole scene at once -> state [B, K, D]."""
        centre = torch.full((len(scene), 2), 0.5, device=scene.sizes.device)
        lay = self._vit_windows if self._captured is None else self._captured.vit_windows
        return self.see(scene, lay(centre, scene.sizes), self.initial_state(len(scene)))

    def compile(self, **options: Any) -> None:
        """Capture a glimpse, and ViT mode, for inference: fewer launches, the same numbers.

        On a GPU a glimpse of few images is bound by its hundreds of launches. CUDA graphs make two
        of them: all that lays out windows, and all from pixels to the next state; reading stays
        between. Numbers differ by rounding. The first calls for a number of images compile and
        record; from a second number on, code is compiled for any, and each is recorded once.

        Weights may be loaded or moved afterwards. A copy of the model, what a pickle brings back,
        and an export are as if it had never been compiled. A compiled model raises a ValueError
        where gradients are recorded; to train, compile the backbone (``pretrain.compile``). A
        program that calls ``torch.compiler.cudagraph_mark_step_begin`` is to do so for each batch
        that it shows this model, too.

        Args:
            **options: for ``torch.compile``, such as ``backend`` or ``dynamic``; without ``mode``,
                ``backend`` or ``options`` it is ``mode="reduce-overhead"``, CUDA graphs.
        """
        if not options.keys() & {"mode", "backend", "options"}:
            options["mode"] = "reduce-overhead"
        self._captured = _Captured(
            _kept(self._windows, options),
            _kept(self._vit_windows, options),
            _kept(self._see, options),
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_captured": None}  # type: ignore[no-untyped-call]

    def _windows(self, gaze: Tensor, sizes: Tensor) -> Tensor:
        return self.context.windows(gaze, sizes, None)

    def _vit_windows(self, centre: Tensor, sizes: Tensor) -> Tensor:
        return self.vit_context.windows(centre, sizes, None)

    def _see(self, pixels: Tensor, windows: Tensor, state: Tensor) -> Tensor:
        return self.backbone.see(pixels, windows, state)

    @property
    def finest_zoom(self) -> float:
        """The largest zoom at which it reads: in glimpses, in ViT mode, or to choose a gaze."""
        readers = (self.context, self.vit_context, self.policy)
        return max(reader.finest_zoom for reader in readers)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.backbone.parameters()).device


def _kept(function: Callable[..., Tensor], options: Mapping[str, Any]) -> Callable[..., Tensor]:
    """Compile a function, and copy what its CUDA graph returns, so that it may be kept.

    The next replay writes over a result, or forbids to read it. A copy of a few kilobytes also
    frees us of ``cudagraph_mark_step_begin``, which is for whoever owns the iteration: it would
    take the activations from a training step of others around us, and once anybody has called it
    nothing begins anew without. Otherwise each call begins anew by itself, unless a backward pass
    is still to come; hence no gradients.
    """
    compiled = torch.compile(function, **options)
    known: set[torch.device] = set()

    def call(*tensors: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise ValueError(
                "the model was compiled for inference: call it under torch.no_grad() or "
                "torch.inference_mode(), or train one that was not compiled"
            )
        device = tensors[0].device
        if device not in known:  # let parts send there what they keep: a graph would send it anew
            known.add(device)
            return function(*tensors)
        return compiled(*(_alike(one.detach()) for one in tensors)).clone()

    return call


def _alike(tensor: Tensor) -> Tensor:
    """Make the first state, a parameter, a tensor as later states are: compiled once for both."""
    if torch.is_inference_mode_enabled() and not tensor.is_inference():
        return tensor.clone(memory_format=torch.contiguous_format)
    return tensor.contiguous()


def assemble(config: ModelConfig) -> FovealModel:
    """Build a model from its config, with fresh weights, in evaluation mode.

    Raises:
        ValueError: parts that do not fit together.
    """
    backbone: Backbone = part(
        "backbone", config.backbone, patch_size=config.patch_size, channels=config.channels
    )
    extractor: PatchExtractor = part(
        "patch_extractor",
        config.extractor,
        patch_size=config.patch_size,
        channels=config.channels,
        fill=backbone.mean,
    )
    context: ContextBuilder = part("context_builder", config.context)
    vit_context: ContextBuilder = part("context_builder", config.vit_context)
    backbone.tune((context.num_windows, vit_context.num_windows))
    policy: GazePolicy = part(
        "gaze_policy",
        config.policy,
        width=backbone.width,
        num_state_tokens=backbone.num_state_tokens,
    )
    return FovealModel(config, extractor, context, vit_context, backbone, policy).eval()
