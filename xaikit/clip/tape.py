"""Record queries, keys, values, attention and gradients of a CLIP tower while it runs, unpatched.

Two ways of looking in serve all of open_clip: the native blocks use ``nn.MultiheadAttention``, whose
inputs and output are caught by hooks and whose inside is recomputed from its weights; timm and custom
blocks call ``scaled_dot_product_attention``, whose arguments are caught as they are passed. Either way the
model computes what it always computes, and nothing stays on it afterwards.

The model is frozen, so autograd builds no graph until the lowest recorded attention output, which is
made a leaf: the blocks below it run without a graph.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .layers import FusedLayer, Layer, MultiheadLayer
from .model import Clip
from .towers import Tower, tower


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

    def __init__(self, tower: Tower, gradients: bool, graph_from: int = 0, inputs: str | None = None):
        self.tower = tower
        self._gradients = gradients
        self._graph_from = graph_from
        self._inputs = inputs
        self._recorded: dict[int, Layer] = {}
        self._running: int | None = None
        self._switched: list[nn.Module] = []  # layers that are to go back to their own attention
        self._forget_graph()

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
        self._check_graph()
        found = iter(torch.autograd.grad(score, [*self._sources.values(), *self._input_sources.values()]))
        for index in self._sources:
            self._recorded[index].take_gradient(next(found))
        for index in self._input_sources:
            self._recorded[index].input_gradient = next(found)
        self._forget_graph()

    def backward_each(self, score: Callable[[Tensor], Tensor]) -> None:
        """Give every recorded block its ``gradient`` of a scalar score of its own output, whatever the blocks
        above make of that. Needs ``gradients=True``."""
        self._check_graph()
        for index in sorted(self._outputs):
            # The graph is kept for the blocks above; the walk itself ends at this block's attention.
            (gradient,) = torch.autograd.grad(score(self._outputs[index]), self._sources[index], retain_graph=True)
            self._recorded[index].take_gradient(gradient)
        self._forget_graph()

    def _check_graph(self) -> None:
        if not self._gradients:
            raise RuntimeError("this tape was recorded with gradients=False, so it has no graph to go back through")

    def _forget_graph(self) -> None:
        # By index: the tensors whose gradients belong to a layer, and the blocks' outputs.
        self._sources: dict[int, Tensor] = {}
        self._input_sources: dict[int, Tensor] = {}
        self._outputs: dict[int, Tensor] = {}

    def _source(self, index: int, value: Tensor, sources: dict[int, Tensor]) -> Tensor:
        """Where the graph begins: the first recorded value that has no graph yet becomes a leaf."""
        if self._gradients and index >= self._graph_from:
            value = value if value.requires_grad else value.detach().requires_grad_()
            sources[index] = value
        return value

    def _catch_fused(self, args, kwargs, result: Tensor) -> Tensor:
        q, k, v = args[:3]
        mask = kwargs.get("attn_mask", args[3] if len(args) > 3 else None)
        if kwargs.get("is_causal"):
            mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
        module, block = self._modules(self._running)
        layer = FusedLayer(module, block, q, k, v, mask, kwargs.get("scale") or q.shape[-1] ** -0.5)
        layer._result = result = self._source(self._running, result, self._sources)
        self._recorded[self._running] = layer
        return result

    def _modules(self, index: int) -> tuple[nn.Module, nn.Module | None]:
        """The attention layer of an index and its block, None for a pooling layer."""
        if index == len(self.tower.blocks):
            return self.tower.pool, None
        return self.tower.attentions[index], self.tower.blocks[index]

    def _attach(self, index: int) -> list:
        """Hooks on one attention layer, and on its block for the block's input and output."""
        attention, block = self._modules(index)
        multihead = isinstance(attention, nn.MultiheadAttention)
        entered: list[Tensor] = []  # the block's input, until its layer is there to hold it
        given: list[tuple] = []  # the attention layer's own arguments, until it has run

        def entering(module, args):
            value = self._source(index, args[0], self._input_sources)
            entered[:] = [value.detach()]
            return tuple(value if argument is args[0] else argument for argument in args)

        def before(module, args, kwargs):
            self._running = index
            given[:] = [args]
            if multihead and module.batch_first and args and args[0].requires_grad:
                # PyTorch exchanges samples and tokens, and multiplies token by token what then doesn't lie in one piece
                turned = args[0].transpose(0, 1).contiguous().transpose(0, 1)
                return tuple(turned if argument is args[0] else argument for argument in args), kwargs
            return None

        def after(module, args, kwargs, result):
            self._running = None
            args = given.pop()
            if multihead:
                inputs = (*args, *(kwargs[name] for name in ("query", "key", "value") if name in kwargs))[:3]
                self._recorded[index] = MultiheadLayer(module, block, inputs, kwargs.get("attn_mask"))
                projected = self._source(index, result[0], self._sources)
                self._recorded[index].projected = projected.detach()
                return (projected, *result[1:])
            return None

        def projection_after(module, args, result):
            if index not in self._recorded:
                raise ValueError(
                    f"{type(attention).__name__} doesn't call scaled_dot_product_attention and can't be recorded"
                )
            self._recorded[index].projected = result.detach()

        def block_after(module, args, result):
            layer = self._recorded[index]
            layer.output = result.detach()
            layer.input = entered.pop() if entered else None
            if self._gradients and index >= self._graph_from:
                self._outputs[index] = result

        if (
            getattr(attention, "fused_attn", True) is False
        ):  # timm's switch: otherwise it computes the same in its own words
            attention.fused_attn = True
            self._switched.append(attention)
        handles = [
            attention.register_forward_pre_hook(before, with_kwargs=True),
            attention.register_forward_hook(after, with_kwargs=True),
        ]
        if not multihead:
            projection = attention.out_proj if hasattr(attention, "out_proj") else attention.proj
            handles.append(projection.register_forward_hook(projection_after))
        if block is not None:
            handles.append(block.register_forward_hook(block_after))
            if self._inputs is not None:
                watched = block if self._inputs == "block" else attention
                handles.append(watched.register_forward_pre_hook(entering))
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
    graph_from: int | None = None,
    inputs: str | None = None,
) -> Iterator[Tape]:
    """Record a tower while it runs inside the ``with`` statement.

    Parameters
    ----------
    clip : the model; its own outputs stay equal to 1e-5 while recording, and bit-identical afterwards.
    side : "image" or "text".
    blocks : indices of blocks, negative ones from the end; None for all. The pooling attention of a tower that has one is
        recorded, too.
    gradients : keep a graph from the lowest recorded layer on, for ``tape.backward(score)``.
    graph_from : with gradients, the lowest block that gets them; None for all that are recorded.
    inputs : record as ``input`` what enters each "block", or its attention layer behind the "norm"; None for
        neither.

    Run the model once inside; a second run overwrites the first. After it, also after an exception, no hook
    is left. Raises ValueError for a block that does not exist or a tower that cannot be recorded.

    Examples
    --------
    >>> with xk.record(clip, "image") as tape:
    ...     _ = clip.encode_image(clip.pixels(scenes.image))
    >>> tape[-1].attention.shape
    torch.Size([4, 4, 65, 65])
    """
    if inputs not in (None, "block", "norm"):
        raise ValueError(f"inputs={inputs!r}: choose 'block', 'norm' or None")
    described = tower(clip, side)
    total = len(described.blocks)
    wanted = list(range(total)) if blocks is None else list(blocks)
    wrong = [block for block in wanted if not -total <= block < total]
    if wrong:
        raise ValueError(f"block {wrong[0]} doesn't exist: the {side} tower of {clip.name} has blocks 0 to {total - 1}")
    tape = Tape(described, gradients, graph_from or 0, inputs)
    indices = sorted({block % total for block in wanted}) + [total] * (described.pool is not None)
    handles = []
    try:
        for index in indices:
            handles += tape._attach(index)
        fused = any(not isinstance(tape._modules(index)[0], nn.MultiheadAttention) for index in indices)
        with _FusedWatch(tape) if fused else contextlib.nullcontext(), torch.set_grad_enabled(gradients):
            yield tape
    finally:
        for handle in handles:
            handle.remove()
        for attention in tape._switched:
            attention.fused_attn = False
