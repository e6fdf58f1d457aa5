"""The position embedding: where a patch lies and how large it is, as a vector."""

import torch
from torch import Tensor, nn


class PositionMLP(nn.Module):
    """Embed windows by a shallow MLP of (x, y, zoom). Paper, appendix D.

    It is the only positional information, so that nothing has to be interpolated for any image.
    x, y in 0..1 and zooms in 0..4 are brought to [-1, 1] (our choice).
    """

    def __init__(self, width: int):
        super().__init__()
        self.hidden = nn.Linear(3, width)
        self.out = nn.Linear(width, width)

    def forward(self, windows: Tensor) -> Tensor:
        """Embed windows [B, N, 3] -> [B, N, D]."""
        centre = windows[..., :2] * 2 - 1  # in [-1, 1] within the image
        zoom = windows[..., 2:] / 2 - 1
        inputs = torch.cat([centre, zoom], dim=-1).to(self.hidden.weight.dtype)
        embedded: Tensor = self.out(nn.functional.gelu(self.hidden(inputs)))
        return embedded
