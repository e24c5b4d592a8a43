"""One attention layer as it was recorded: its parts, and what follows from them."""

import math
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Layer:
    """What one attention layer did. Heads are kept apart: (batch, heads, tokens, head width).

    ``output`` (batch, tokens, width) is the output of the whole block (None for a pooling layer),
    ``projected`` that of the attention layer after its out-projection. ``input`` is what ``record`` was asked
    for by ``inputs``, of the same shape as ``output``.
    """

    input: Tensor | None = None
    output: Tensor | None = None
    projected: Tensor

    def __init__(self, module: nn.Module, block: nn.Module | None) -> None:
        self._module = module
        self._block = block
        self.gradient: Tensor | None = None
        """d score / d attention_output, (batch, query tokens, heads * head width); set by Tape.backward."""
        self.input_gradient: Tensor | None = None
        """d score / d input, in its shape; set by Tape.backward."""

    @cached_property
    def attention(self) -> Tensor:
        """Attention weights (batch, heads, query tokens, key tokens); rows sum to 1."""
        return _softmax(self.q @ self.k.transpose(-2, -1) * self._scale, self._mask)

    def attention_at(self, row: Tensor) -> Tensor:
        """The attention's row (batch,) of each sample alone, (batch, heads, key tokens)."""
        query = self.query_at(row).unflatten(-1, (self.v.shape[1], -1)).unsqueeze(-1)
        mask = self._mask
        if mask is not None:
            mask = mask.expand(*self.v.shape[:2], -1, -1)[torch.arange(len(row), device=row.device), :, row]
        return _softmax((self.k @ query).squeeze(-1) * self._scale, mask)

    @property
    def attention_gradient(self) -> Tensor:
        """d score / d attention, in the shape of ``attention``; exact, since the output is attention @ v."""
        return self._heads(self.gradient) @ self.v.transpose(-2, -1)

    def attention_gradient_at(self, row: Tensor) -> Tensor:
        """The gradient's row (batch,) of each sample alone, (batch, heads, key tokens)."""
        index = torch.arange(len(row), device=row.device)
        heads = self.gradient[index, row].unflatten(-1, (self.v.shape[1], -1))
        return (self.v @ heads.unsqueeze(-1)).squeeze(-1)

    def project_out(self, x: Tensor) -> Tensor:
        """Joined heads through the layer's inner norm, where it has one, and its out-projection."""
        module = self._module
        if getattr(module, "gate", None) is not None or getattr(module, "head_scale", None) is not None:
            raise ValueError(
                f"{type(module).__name__} scales its heads by what it sees: its out-projection alone isn't known"
            )
        inner = getattr(module, "ln_inner", None)
        if inner is None and not hasattr(module, "latent"):  # a latent pooling layer's norm stands behind it
            inner = getattr(module, "norm", None)
        out = module.out_proj if hasattr(module, "out_proj") else module.proj
        return out(x if inner is None else inner(x))

    def to_residual(self, x: Tensor) -> Tensor:
        """What the block adds to its residual stream for these joined heads: projected out, then scaled."""
        x = self.project_out(x)
        for name in ("ln_attn", "ls_1", "ls1"):
            x = getattr(self._block, name, nn.Identity())(x)
        gamma = getattr(self._block, "gamma_1", None)
        return x if gamma is None else x * gamma

    def _heads(self, joined: Tensor) -> Tensor:
        return joined.unflatten(-1, (self.v.shape[1], -1)).transpose(1, 2)

    # Queries, keys and values with heads joined, (batch, tokens, heads * head width).
    joined_q = property(lambda self: join_heads(self.q))
    joined_k = cached_property(lambda self: join_heads(self.k))
    joined_v = cached_property(lambda self: join_heads(self.v))

    def query_at(self, row: Tensor) -> Tensor:
        """The joined query (batch, width) of one row (batch,) each."""
        return self.joined_q[torch.arange(len(row), device=row.device), row]


def _softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1)


def join_heads(heads: Tensor) -> Tensor:
    """(batch, heads, tokens, head width) to (batch, tokens, heads * head width)."""
    return heads.transpose(1, 2).flatten(2)


class MultiheadLayer(Layer):
    """An ``nn.MultiheadAttention``, recomputed from its inputs and weights on demand."""

    def __init__(
        self,
        module: nn.MultiheadAttention,
        block: nn.Module | None,
        inputs: tuple[Tensor, ...],
        mask: Tensor | None,
    ):
        super().__init__(module, block)
        self._inputs = tuple(x.detach() for x in inputs)
        self._scale = module.head_dim**-0.5
        self._mask = mask
        if mask is not None and mask.ndim == 3:  # (batch * heads, query, key)
            self._mask = mask.unflatten(0, (-1, module.num_heads))

    def _project(self, index: int, x: Tensor | None = None) -> Tensor:
        """Input through the query (0), key (1) or value (2) projection."""
        module, width = self._module, self._module.embed_dim
        rows = slice(index * width, (index + 1) * width)
        if module._qkv_same_embed_dim:
            weight = module.in_proj_weight[rows]
        else:
            weight = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)[index]
        bias = None if module.in_proj_bias is None else module.in_proj_bias[rows]
        return F.linear(self._inputs[index] if x is None else x, weight, bias)

    joined_q = cached_property(lambda self: self._project(0))
    joined_k = cached_property(lambda self: self._project(1))
    joined_v = cached_property(lambda self: self._project(2))
    q = property(lambda self: self._heads(self.joined_q))
    k = property(lambda self: self._heads(self.joined_k))
    v = property(lambda self: self._heads(self.joined_v))

    def _heads(self, joined: Tensor) -> Tensor:
        return joined.unflatten(-1, (self._module.num_heads, -1)).transpose(1, 2)

    def query_at(self, row: Tensor) -> Tensor:
        batch = self._inputs[0]
        return self._project(0, batch[torch.arange(len(row), device=row.device), row])

    @property
    def attention_output(self) -> Tensor:
        """attention @ v with heads joined, before the out-projection."""
        return join_heads(self.attention @ self.v)

    def take_gradient(self, gradient: Tensor) -> None:
        """The out-projection is linear, so its input's gradient is its output's times the weight."""
        self.gradient = gradient @ self._module.out_proj.weight


class FusedLayer(Layer):
    """A layer that called ``scaled_dot_product_attention``: its arguments and its output, as they were."""

    def __init__(
        self,
        module: nn.Module,
        block: nn.Module | None,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        scale: float,
    ):
        super().__init__(module, block)
        self.q, self.k, self.v = q.detach(), k.detach(), v.detach()
        self._mask, self._scale = mask, scale
        self._result: Tensor

    @property
    def attention_output(self) -> Tensor:
        """attention @ v with heads joined, before normalisation and out-projection."""
        return join_heads(self._result.detach())

    def take_gradient(self, gradient: Tensor) -> None:
        self.gradient = join_heads(gradient)
