"""Attention kernels behind timm's Attention: same weights, same names, another inner product."""

import torch
import torch.nn.functional as F
from timm.layers import Attention
from torch import Tensor


class SDPAttention(Attention):  # type: ignore[misc]  # timm is untyped
    """Multi-head self-attention by torch's scaled_dot_product_attention."""

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Attend among tokens [B, T, D] -> [B, T, D]."""
        q, k, v = _split(self, x)  # [B, heads, T, D/heads]
        dropout = self.attn_drop.p if self.training else 0.0
        if x.device.type == "cpu":  # its bfloat16 backward is some 30 times slower than float32
            with torch.autocast("cpu", enabled=False):
                q, k, v = q.float(), k.float(), v.float()
                mixed = F.scaled_dot_product_attention(q, k, v, attn_mask, dropout, is_causal)
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask, dropout, is_causal)
        return _join(self, mixed.transpose(1, 2))


class XformersAttention(Attention):  # type: ignore[misc]  # timm is untyped
    """Multi-head self-attention by xformers (CUDA only)."""

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Attend among tokens [B, T, D] -> [B, T, D]."""
        assert not is_causal
        if x.device.type != "cuda":
            raise ValueError("attention=xformers needs a CUDA device; use attention=sdpa")
        from xformers.ops import memory_efficient_attention  # warns when imported without CUDA

        q, k, v = (one.transpose(1, 2) for one in _split(self, x))  # [B, T, heads, D/heads]
        dropout = self.attn_drop.p if self.training else 0.0
        return _join(self, memory_efficient_attention(q, k, v, attn_mask, dropout))


def attention_class(kernel: str) -> type[Attention]:
    """Choose the attention for ``sdpa``, ``xformers`` or ``auto`` (which is sdpa).

    xformers is no automatic choice: beside current torch its wheels wrap torch's own kernels.

    Raises:
        ValueError: xformers is asked for and not installed.
    """
    if kernel != "xformers":
        return SDPAttention
    from importlib.util import find_spec

    if find_spec("xformers") is None:
        raise ValueError("attention: xformers is not installed; pip install 'fovea-vit[xformers]'")
    return XformersAttention


def _split(layer: Attention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Project tokens [B, T, D] to queries, keys and values [B, heads, T, D/heads]."""
    B, T, _ = x.shape
    qkv = layer.qkv(x).reshape(B, T, 3, layer.num_heads, layer.head_dim).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)
    return layer.q_norm(q), layer.k_norm(k), v


def _join(layer: Attention, mixed: Tensor) -> Tensor:
    """Project attended values [B, T, heads, D/heads] back to tokens [B, T, D]."""
    tokens = mixed.flatten(2).to(layer.proj.weight.dtype)
    joined: Tensor = layer.proj_drop(layer.proj(layer.norm(tokens)))
    return joined
