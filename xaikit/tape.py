"""Record queries, keys, values, attention and gradients of a CLIP tower while it runs, unpatched.

Two ways of looking in serve all of open_clip: the native blocks use ``nn.MultiheadAttention``, whose
inputs and output are caught by hooks and whose inside is recomputed from its weights; timm and custom
blocks call ``scaled_dot_product_attention``, whose arguments are caught as they are passed. Either way the
model computes what it always computes, and nothing stays on it afterwards.

The model is frozen, so autograd builds no graph until the lowest recorded attention output, which is
made a leaf: the blocks below it run without a graph.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .clip import Clip
from .towers import Tower, tower


class Layer:
    """What one attention layer did. Heads are kept apart: (batch, heads, tokens, head width).

    ``output`` (batch, tokens, width) is the output of the whole block (None for a pooling layer),
    ``projected`` that of the attention layer after its out-projection.
    """

    output: Tensor | None = None
    projected: Tensor

    def __init__(self) -> None:
        self.gradient: Tensor | None = None
        """d score / d attention_output, (batch, query tokens, heads * head width); set by Tape.backward."""

    @cached_property
    def attention(self) -> Tensor:
        """Attention weights (batch, heads, query tokens, key tokens); rows sum to 1."""
        scores = self.q @ self.k.transpose(-2, -1) * self._scale
        if self._mask is not None:
            scores = (
                scores.masked_fill(~self._mask, -math.inf) if self._mask.dtype == torch.bool else scores + self._mask
            )
        return scores.softmax(-1)

    @property
    def attention_gradient(self) -> Tensor:
        """d score / d attention, in the shape of ``attention``; exact, since the output is attention @ v."""
        return self._heads(self.gradient) @ self.v.transpose(-2, -1)

    def _heads(self, joined: Tensor) -> Tensor:
        return joined.unflatten(-1, (self.v.shape[1], -1)).transpose(1, 2)

    @cached_property
    def joined_k(self) -> Tensor:
        """Keys with heads joined, (batch, tokens, heads * head width)."""
        return _join(self.k)

    @cached_property
    def joined_v(self) -> Tensor:
        """Values with heads joined."""
        return _join(self.v)

    @property
    def joined_q(self) -> Tensor:
        """Queries with heads joined."""
        return _join(self.q)

    def query_at(self, row: Tensor) -> Tensor:
        """The joined query (batch, width) of one row (batch,) each."""
        return self.joined_q[torch.arange(len(row), device=row.device), row]


def _join(heads: Tensor) -> Tensor:
    return heads.transpose(1, 2).flatten(2)


class MultiheadLayer(Layer):
    """An ``nn.MultiheadAttention``, recomputed from its inputs and weights on demand."""

    def __init__(self, module: nn.MultiheadAttention, inputs: tuple[Tensor, ...], mask: Tensor | None):
        super().__init__()
        self._module = module
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
    q = property(lambda self: self._heads_of(self.joined_q))
    k = property(lambda self: self._heads_of(self.joined_k))
    v = property(lambda self: self._heads_of(self.joined_v))

    def _heads_of(self, joined: Tensor) -> Tensor:
        return joined.unflatten(-1, (self._module.num_heads, -1)).transpose(1, 2)

    def query_at(self, row: Tensor) -> Tensor:
        batch = self._inputs[0]
        return self._project(0, batch[torch.arange(len(row), device=row.device), row])

    @property
    def attention_output(self) -> Tensor:
        """attention @ v with heads joined, before the out-projection."""
        return _join(self.attention @ self.v)

    def project_out(self, x: Tensor) -> Tensor:
        """Joined heads through the layer's out-projection, bias included."""
        return self._module.out_proj(x)

    def take_gradient(self, gradient: Tensor) -> None:
        """The out-projection is linear, so its input's gradient is its output's times the weight."""
        self.gradient = gradient @ self._module.out_proj.weight


class FusedLayer(Layer):
    """A layer that called ``scaled_dot_product_attention``: its arguments and its output, as they were."""

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float):
        super().__init__()
        self.q, self.k, self.v = q.detach(), k.detach(), v.detach()
        self._mask, self._scale = mask, scale
        self._result: Tensor

    @property
    def attention_output(self) -> Tensor:
        """attention @ v with heads joined, before normalisation and out-projection."""
        return _join(self._result.detach())

    def take_gradient(self, gradient: Tensor) -> None:
        self.gradient = _join(gradient)


class _FusedWatch(TorchFunctionMode):
    """Sees calls of scaled_dot_product_attention made while an attention layer runs."""

    def __init__(self, tape: "Tape"):
        super().__init__()
        self.tape = tape

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if function is F.scaled_dot_product_attention and self.tape._running is not None:
            result = self.tape._catch_fused(args, kwargs, result)
        return result


class Tape:
    """The recorded layers of one forward pass. ``tape[-1]`` is the last block, ``tape.pool`` the pooling
    attention of towers that have one, ``tape.layers`` what was asked for, lowest first."""

    def __init__(self, tower: Tower, gradients: bool, graph_from: int = 0):
        self.tower = tower
        self._gradients = gradients
        self._graph_from = graph_from
        self._recorded: dict[int, Layer] = {}
        self._sources: dict[int, Tensor] = {}  # in the graph: the tensor whose gradient belongs to a layer
        self._running: int | None = None

    def __getitem__(self, block: int) -> Layer:
        index = block % len(self.tower.blocks)
        if index not in self._recorded:
            known = sorted(i for i in self._recorded if i < len(self.tower.blocks))
            raise KeyError(
                f"block {block} was not recorded; recorded blocks are {known or 'none: run the model first'}"
            )
        return self._recorded[index]

    @property
    def pool(self) -> Layer:
        return self._recorded[len(self.tower.blocks)]

    @property
    def layers(self) -> list[Layer]:
        return [self._recorded[index] for index in sorted(self._recorded)]

    def backward(self, score: Tensor) -> None:
        """Give every recorded layer its ``gradient`` of a scalar score. Needs ``gradients=True``."""
        if not self._gradients:
            raise RuntimeError("this tape was recorded with gradients=False, so it has no graph to go back through")
        indices = sorted(self._sources)
        found = torch.autograd.grad(score, [self._sources[i] for i in indices])
        for index, gradient in zip(indices, found, strict=True):
            self._recorded[index].take_gradient(gradient)
        self._sources = {}

    def _source(self, index: int, value: Tensor) -> Tensor:
        """Where the graph begins: the first recorded value that has no graph yet becomes a leaf."""
        if self._gradients and index >= self._graph_from:
            value = value if value.requires_grad else value.detach().requires_grad_()
            self._sources[index] = value
        return value

    def _catch_fused(self, args, kwargs, result: Tensor) -> Tensor:
        q, k, v = args[:3]
        mask = kwargs.get("attn_mask", args[3] if len(args) > 3 else None)
        if kwargs.get("is_causal"):
            mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
        layer = FusedLayer(q, k, v, mask, kwargs.get("scale") or q.shape[-1] ** -0.5)
        layer._result = result = self._source(self._running, result)
        self._recorded[self._running] = layer
        return result

    def _attach(self, index: int, attention: nn.Module) -> list:
        """Hooks on one attention layer, and on its block for the block's output."""
        multihead = isinstance(attention, nn.MultiheadAttention)

        def before(module, args, kwargs):
            self._running = index

        def after(module, args, kwargs, result):
            self._running = None
            if multihead:
                inputs = (*args, *(kwargs[name] for name in ("query", "key", "value") if name in kwargs))[:3]
                self._recorded[index] = MultiheadLayer(module, inputs, kwargs.get("attn_mask"))
                projected = self._source(index, result[0])
                self._recorded[index].projected = projected.detach()
                return (projected, *result[1:])
            if index not in self._recorded:
                raise RuntimeError(
                    f"{type(module).__name__} doesn't call scaled_dot_product_attention and can't be recorded"
                )
            return None

        def projection_after(module, args, result):
            self._recorded[index].projected = result.detach()

        def block_after(module, args, result):
            self._recorded[index].output = result.detach()

        handles = [
            attention.register_forward_pre_hook(before, with_kwargs=True),
            attention.register_forward_hook(after, with_kwargs=True),
        ]
        if not multihead:
            projection = attention.out_proj if hasattr(attention, "out_proj") else attention.proj
            handles.append(projection.register_forward_hook(projection_after))
        if index < len(self.tower.blocks):
            handles.append(self.tower.blocks[index].register_forward_hook(block_after))
        return handles


def last(count: int | None, total: int, name: str = "blocks") -> list[int]:
    """Indices of the last ``count`` of ``total`` blocks; all for None. Raises ValueError out of range."""
    count = total if count is None else count
    if not isinstance(count, int) or not 1 <= count <= total:
        raise ValueError(f"{name}={count!r}: give how many last blocks to use, 1 to {total}, or None for all")
    return list(range(total - count, total))


@contextlib.contextmanager
def record(
    clip: Clip,
    side: str = "image",
    blocks: Sequence[int] | None = (-1,),
    gradients: bool = False,
    pool: bool = True,
    graph_from: int | None = None,
) -> Iterator[Tape]:
    """Record a tower while it runs inside the ``with`` statement.

    Parameters
    ----------
    clip : the model; its own outputs stay equal to 1e-5 while recording, and bit-identical afterwards.
    side : "image" or "text".
    blocks : indices of blocks, negative ones from the end; None for all.
    gradients : keep a graph from the lowest recorded layer on, for ``tape.backward(score)``.
    pool : record the pooling attention too, where the tower has one.
    graph_from : with gradients, the lowest block that gets them; None for all that are recorded.

    Run the model once inside; a second run overwrites the first. After it, also after an exception, no hook
    is left. Raises ValueError for a block that does not exist or a tower that cannot be recorded.
    """
    described = tower(clip, side)
    total = len(described.blocks)
    wanted = list(range(total)) if blocks is None else list(blocks)
    wrong = [block for block in wanted if not -total <= block < total]
    if wrong:
        raise ValueError(f"block {wrong[0]} doesn't exist: the {side} tower of {clip.name} has blocks 0 to {total - 1}")
    pool = pool and described.pool is not None
    tape = Tape(described, gradients, graph_from or 0)
    modules = [(index, described.attentions[index]) for index in sorted({block % total for block in wanted})]
    modules += [(total, described.pool)] * pool
    handles = []
    try:
        for index, attention in modules:
            handles += tape._attach(index, attention)
        fused = any(not isinstance(attention, nn.MultiheadAttention) for _, attention in modules)
        with _FusedWatch(tape) if fused else contextlib.nullcontext(), torch.set_grad_enabled(gradients):
            yield tape
    finally:
        for handle in handles:
            handle.remove()
