"""Scenes: images prepared for reading, and what a reader makes of their patches."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Scene(ABC):
    """A batch of images prepared for reading; nobody downstream knows how, or how large they are.

    Attributes:
        sizes: int64 [B, 2], (height, width) of each image in pixels.
    """

    sizes: Tensor

    def __len__(self) -> int:
        return len(self.sizes)

    @abstractmethod
    def read(self, windows: Tensor) -> Tensor:
        """Read patches: windows [B, N, 3] -> patches [B, N, C, P, P], float32 in [0, 1].

        Each target pixel is the area average of its source cell inside the image; a cell that lies
        outside altogether has the extractor's fill colour.

        On a GPU the host does not wait for numbers: ``integral`` reads NaN there from a window that
        is not finite, is below zoom -64, or has a cell whose sum may leave int32.

        Raises:
            ValueError: the windows are not finite, or their shape does not fit the scene.
        """

    def tokens(
        self, windows: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Read patches as a patch embedding takes them: windows [B, N, 3] -> [B, N, C*P*P].

        Args:
            windows: as for ``read``.
            mean: [C], subtracted from patches in 0..1.
            std: [C], by which the difference is divided.
            dtype: of the result.
        """
        return normalise(self.read(windows), mean, std).to(dtype)


def normalise(patches: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Make tokens of patches: [..., C, P, P] in 0..1, mean and std [C] -> [..., C*P*P]."""
    return ((patches - mean[:, None, None]) / std[:, None, None]).flatten(-3)
