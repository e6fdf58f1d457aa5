"""Numbers of a context that are the same for every glimpse."""

import torch
from torch import Tensor


class Constant:
    """A tensor that every device is sent once: to copy it for each glimpse would stop the host.

    Args:
        values: the numbers, on the CPU.
    """

    def __init__(self, values: Tensor):
        self.values = values
        self._copies = {values.device: values}

    def on(self, device: torch.device) -> Tensor:
        """Return the numbers on a device, not to be written to."""
        kept = self._copies.get(device)
        if kept is not None:
            return kept
        if torch.compiler.is_compiling():  # a tensor of the tracer means nothing afterwards
            return self.values.to(device)
        with torch.inference_mode(False):  # training, too, may use what inference copied
            self._copies[device] = self.values.to(device)
        return self._copies[device]

    def __reduce__(self) -> tuple[type["Constant"], tuple[Tensor]]:
        return Constant, (self.values,)  # a process that gets a copy may see other devices
