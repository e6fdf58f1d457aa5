"""The interfaces a plugin may implement, and what travels between them.

Shapes are written with one letter each: B images, S glimpses, N windows of one glimpse, P patch
side, C channels, K state tokens, D width. ``windows [B, N, 3]`` hold ``(x, y, zoom)``: x to the
right and y down in 0..1 of the image's width and height, zoom = log2(shorter side / window side).
Geometry is float64; patches are float32 in [0, 1].
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from fovea.config import Section
from fovea.images import Array, Images, Unopened
from fovea.loggers import Logger as Logger
from fovea.scene import Scene as Scene
from fovea.scene import normalise as normalise


class PatchExtractor(ABC):
    """Builds scenes. The constructor takes its config, patch_size, channels and fill.

    Attributes:
        takes_packed_on_device: whether ``prepare`` takes ``fovea.images.Packed`` whose buffer is on
            its device already; otherwise training gives it what is on the host.
    """

    Config: ClassVar[type[Section]]
    takes_packed_on_device: ClassVar[bool] = False

    @abstractmethod
    def __init__(
        self,
        config: Section,
        *,
        patch_size: int = 16,
        channels: int | None = None,
        fill: tuple[float, ...] = (0.5,),
    ):
        """Store.

        Args:
            config: its settings.
            patch_size: P, in pixels; the default is the paper's.
            channels: what images are brought to, as ``fovea.images.as_images`` does; None keeps
                what they have.
            fill: colour of what lies outside an image, in 0..1: one value, or one per channel.
        """

    @abstractmethod
    def prepare(self, images: Images, device: torch.device | str | None = None) -> Scene:
        """Prepare images of any sizes: the only work that grows with the image."""

    def describe(self, device: torch.device | str | None = None) -> str:
        """Say in a line what works on a device, for logs."""
        return type(self).__name__


class ContextBuilder(ABC):
    """Says which windows one glimpse consists of: pure geometry, no pixels.

    Attributes:
        num_windows: N, the same for every glimpse.
        finest_zoom: the largest zoom of any window, in training or evaluation. Images are decoded
            no larger than it takes; infinite, as it is unless set, means that it is not known.
    """

    Config: ClassVar[type[Section]]
    num_windows: int
    finest_zoom: float = math.inf

    @abstractmethod
    def windows(self, gaze: Tensor, sizes: Tensor, generator: torch.Generator | None) -> Tensor:
        """Lay out windows: gaze [B, 2], sizes [B, 2] -> windows [B, N, 3], float64.

        With a generator what the context randomises is drawn (training); without, it is fixed.
        """


class Backbone(nn.Module, ABC):
    """Turns one glimpse into the next state. The constructor takes patch_size and channels.

    Attributes:
        width: D.
        num_state_tokens: K.
        mean, std: per channel, in 0..1; the backbone normalises the patches it is given.
    """

    Config: ClassVar[type[Section]]
    width: int
    num_state_tokens: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @abstractmethod
    def initial_state(self, batch: int) -> Tensor:
        """Return the learned first state [batch, K, D]."""

    @abstractmethod
    def forward(self, patches: Tensor, windows: Tensor, state: Tensor) -> Tensor:
        """See: patches [B, N, C, P, P], windows [B, N, 3], state [B, K, D] -> state [B, K, D].

        Whoever runs a sequence detaches the state between glimpses, so that no gradient runs from
        one glimpse into the one before; the learned first state is given as it is.
        """

    def look(self, scene: Scene, windows: Tensor, state: Tensor) -> Tensor:
        """Read and see: windows [B * G, N, 3] of B images, state [B * G, K, D] -> the next state.

        Only ``see`` is ever compiled: a CUDA graph would copy the scene.
        """
        return self.see(self.read(scene, windows), windows, state)

    def read(self, scene: Scene, windows: Tensor) -> Tensor:
        """Read what ``see`` takes: windows [B * G, N, 3] of B images -> patches [B * G, N, ...].

        To take ``scene.tokens``, normalised while it is read, override both, and ``compile``.
        """
        patches = scene.read(windows.reshape(len(scene), -1, 3))  # [B, G * N, C, P, P]
        return patches.reshape(*windows.shape[:2], *patches.shape[2:])

    def see(self, patches: Tensor, windows: Tensor, state: Tensor) -> Tensor:
        """See what was read, at windows [R, N, 3], state [R, K, D] -> the next state."""
        seen: Tensor = self(patches, windows, state)
        return seen

    def tune(self, windows: tuple[int, ...]) -> None:
        """Choose what is fastest here for passes over so many windows; by default, do nothing."""

    def describe(self, device: torch.device | str | None = None) -> str:
        """Say in a line what works on a device, for logs."""
        return type(self).__name__

    def no_weight_decay(self) -> set[str]:
        """Names of parameters, besides biases and other 1-D ones, that weight decay spares."""
        return set()

    def layers(self) -> list[nn.Module]:
        """Return its blocks, from the input to the output; empty where it has none.

        They may learn more slowly towards the input, forget their activations, and be shared out
        among processes. Parameters registered before the first block count as the input's.
        """
        return []


@dataclass(frozen=True)
class Loss:
    """A loss, and what to log and to watch beside it.

    Attributes:
        total: scalar to minimise.
        metrics: scalars to log, detached.
        features: [B, D] each, detached; the collapse watch measures their spread.
    """

    total: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    features: Mapping[str, Tensor] = field(default_factory=dict)


class SSLObjective(nn.Module, ABC):
    """Trains a backbone without labels; owns the student and all that is trained beside it.

    Attributes:
        finest_zoom: the largest zoom at which it ever reads; infinite where it is not known.
    """

    Config: ClassVar[type[Section]]
    finest_zoom: float = math.inf

    @abstractmethod
    def __init__(
        self, config: Section, *, backbone: Backbone, context: ContextBuilder, policy: "GazePolicy"
    ):
        """Store; ``policy`` draws the gazes of a sequence before any policy was trained."""
        super().__init__()

    @abstractmethod
    def forward(self, scene: Scene, progress: float, generator: torch.Generator) -> Loss:
        """Compute the loss of a batch at ``progress`` (0..1 of the schedules)."""

    @abstractmethod
    def update(self, progress: float) -> None:
        """Follow an optimiser step, e.g. move an EMA teacher."""

    @abstractmethod
    def trained_backbone(self) -> Backbone:
        """Return the network to use after training (DINO: the teacher)."""


class GazePolicy(nn.Module, ABC):
    """Says where to look next. The constructor takes width (D) and num_state_tokens (K).

    Whoever runs a sequence of glimpses asks what ``begin`` returns, and tells it each gaze:

        policy = policy.begin(scene)
        for each glimpse:
            gaze = draw(policy(state), generator)
            policy.observe(gaze)

    Attributes:
        finest_zoom: the largest zoom at which ``begin`` reads the scene; by default it reads none.
    """

    Config: ClassVar[type[Section]]
    finest_zoom: float = -math.inf

    @abstractmethod
    def forward(self, state: Tensor) -> Distribution:
        """Look at the state [B, K, D]; return a distribution over gazes, batch [B], event [2]."""

    def anneal(self, progress: float) -> None:
        """Set what follows a schedule (the spread of a mixture) for ``progress`` in 0..1."""

    def best(self, state: Tensor) -> Tensor:
        """Return the single most favoured gaze [B, 2]: the mean, unless a policy knows better."""
        mean: Tensor = self(state).mean
        return mean

    def begin(self, scene: Scene) -> "GazePolicy":
        """Return the policy for one sequence over a scene: itself, unless it overrides this.

        One that looks at the scene or remembers gazes returns an object made for the sequence. It
        shares the weights and holds what it saw, so that nothing stays for the next batch. It may
        read a few coarse windows by ``scene.read``, whatever the size of the images. The state that
        it is asked about has B rows, or B * G for G traces of each of the B images, image by image.
        """
        return self

    def observe(self, gaze: Tensor) -> None:
        """Note where to look next, a gaze for each row of the state; by default, do nothing."""


class TaskHead(nn.Module, ABC):
    """Decodes a state. The constructor takes width (D), num_state_tokens (K), num_classes."""

    Config: ClassVar[type[Section]]

    @abstractmethod
    def forward(self, state: Tensor) -> Tensor:
        """Classify: state [B, K, D] -> logits [B, classes]."""


@dataclass(frozen=True)
class Sample:
    """One image of a data set.

    Attributes:
        image: uint8 [H, W, C]; or a path or a ``Source``, which the run's extractor opens.
        label: class index, or -1 where unknown.
        box: (x0, y0, x1, y1) of the object in 0..1 of width and height, or None where unknown.
    """

    image: Array | Unopened
    label: int
    box: tuple[float, float, float, float] | None = None


class DataSet(ABC):
    """Images of a split (train, val, test). The constructor takes split and channels.

    Attributes:
        classes: names of the classes; empty where there are no labels.
    """

    Config: ClassVar[type[Section]]
    classes: tuple[str, ...]

    @abstractmethod
    def __len__(self) -> int:
        """Count the images."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Say what a message calls an image, e.g. its path; reads nothing."""

    @abstractmethod
    def sample(self, index: int, epoch: int) -> Sample:
        """Read one image: a pure function of both numbers, whichever process asks.

        Raises:
            BadImage: the file cannot be used; training goes on without it.
        """

    def reduced(self, shorter_side: int) -> "DataSet":
        """Return the same images for a reader that needs no more pixels than so many.

        Where that saves work, images may come smaller, with at least ``shorter_side`` pixels along
        their shorter side, or all that they have; a setting ``decode: needed | full`` turns it off.
        By default nothing is saved and this is the data set itself.
        """
        return self
