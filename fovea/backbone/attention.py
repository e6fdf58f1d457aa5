"""Attention kernels behind timm's Attention: same weights, same names, another inner product."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch.nn.functional as F
from timm.layers import Attention
from torch import Tensor

from fovea.precision import full_precision

Kernel = Literal["sdpa", "xformers"]


class KernelAttention(Attention):  # type: ignore[misc]  # timm is untyped
    """Multi-head self-attention by a kernel of choice.

    Attributes:
        kernel: what CUDA devices compute it by; other devices have torch's SDPA only.
    """

    kernel: Kernel = "sdpa"

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Attend among tokens [B, T, D] -> [B, T, D]."""
        assert attn_mask is None  # a plain ViT has none
        assert not is_causal
        q, k, v = self._split(x)
        dropout = self.attn_drop.p if self.training else 0.0
        if x.device.type == "cpu":  # its bfloat16 backward is some 30 times slower than float32
            with full_precision():
                mixed = by_sdpa(q.float(), k.float(), v.float(), dropout)
        else:
            kernel = self.kernel if x.device.type == "cuda" else "sdpa"
            mixed = KERNELS[kernel](q, k, v, dropout)
        return self._join(mixed)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project tokens [B, T, D] to queries, keys and values [B, T, heads, D/heads]."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim))
        q, k, v = qkv.unbind(2)
        return self.q_norm(q), self.k_norm(k), v

    def _join(self, mixed: Tensor) -> Tensor:
        """Project attended values [B, T, heads, D/heads] back to tokens [B, T, D]."""
        tokens = mixed.flatten(2).to(self.proj.weight.dtype)
        joined: Tensor = self.proj_drop(self.proj(self.norm(tokens)))
        return joined


def by_sdpa(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """Attend [B, T, heads, D/heads] -> the same, by torch's scaled_dot_product_attention."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # [B, heads, T, D/heads]
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout).transpose(1, 2)


def by_xformers(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """Attend [B, T, heads, D/heads] -> the same, by xformers' memory_efficient_attention."""
    from xformers.ops import memory_efficient_attention  # slow to import, and seldom there

    mixed: Tensor = memory_efficient_attention(q, k, v, p=dropout)
    return mixed


KERNELS: dict[Kernel, Callable[..., Tensor]] = {"sdpa": by_sdpa, "xformers": by_xformers}


@contextmanager
def quiet_import() -> Iterator[None]:
    """Leave out the warning by which xformers says that its wheel was built for another torch.

    Whoever imports it here finds that out by using it, and says so in one sentence.
    """
    log = logging.getLogger("xformers")
    log.addFilter(_tells_more)
    try:
        yield
    finally:
        log.removeFilter(_tells_more)


def _tells_more(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("WARNING[XFORMERS]")
