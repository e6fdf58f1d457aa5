"""The position embedding: where a patch lies and how large it is, as a vector."""

import torch
from torch import Tensor, nn

from fovea.precision import full_precision


class PositionMLP(nn.Module):
    """Embed windows by a shallow MLP of (x, y, zoom). Paper, appendix D.

    It is the only positional information, so that nothing has to be interpolated for any image.
    x, y in 0..1 and zooms in 0..4 are brought to [-1, 1] (our choice). It leaves autocast: in
    bfloat16 the rounding of a position exceeds the step from one patch of zoom 8 to the next.
    """

    _scale: Tensor

    def __init__(self, width: int):
        super().__init__()
        self.hidden = nn.Linear(3, width)
        self.out = nn.Linear(width, width)
        scale = torch.tensor([2.0, 2.0, 0.5])
        self.register_buffer("_scale", scale, persistent=False)

    @full_precision()
    def forward(self, windows: Tensor) -> Tensor:
        """Embed windows [B, N, 3] -> [B, N, D], in the precision of the weights."""
        inputs = (windows * self._scale - 1).to(self.hidden.weight.dtype)
        embedded: Tensor = self.out(nn.functional.gelu(self.hidden(inputs)))
        return embedded
