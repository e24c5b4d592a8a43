"""How much memory explaining takes beside the model's own, from shapes alone, and how many samples fit at once."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from torch import nn
from transformers import PreTrainedConfig

TOKENS_AT_ONCE = 8192  # in a pass over a batch, unless a budget says more or less
ROWS_AT_ONCE = 256  # states turned into logits over the whole vocabulary
SEQUENCES_AT_ONCE = (
    16  # tokens times samples in one backward pass: more are slower on a CPU, since they fall out of its cache
)
# What a method keeps beside a pass: nothing; rows of one layer's attention; all layers' attention; a graph of all layers.
Keeps = Literal["nothing", "rows", "matrices", "graph"]


@dataclass(frozen=True)
class Sizes:
    """The shapes of a language model; ``number`` is the bytes of one of its numbers."""

    layers: int
    width: int
    inner: int
    heads: int
    key_width: int
    vocabulary: int
    number: int

    @classmethod
    def of(cls, model: nn.Module) -> "Sizes":
        """Those of a loaded model; where its layers differ, those of the largest."""
        text = model.config.get_text_config()
        inner, heads, keys = (max(sizes) for sizes in zip(*map(_of_one_layer, text.per_layer_config), strict=True))
        return cls(text.num_hidden_layers, text.hidden_size, inner, heads, keys, text.vocab_size, model.dtype.itemsize)

    def of_layer(self, tokens: int) -> int:
        """Bytes of what one layer computes of this many tokens."""
        return tokens * (3 * self.inner + 10 * self.width) * self.number

    def of_sample(self, tokens: Collection[int], answer: int, keeps: Collection[Keeps] = (), samples: int = 1) -> int:
        """Bytes for explaining one sample of a batch of ``samples``.

        tokens : of prompt, image and answer, first those of the largest scale at which ``keeps`` is kept, or of scale 1, and then at
        each scale. answer : tokens of the answer. keeps : what the methods keep.
        """
        native, longest = next(iter(tokens)), max(tokens)
        cache = 2 * self.layers * native * self.key_width * self.number
        kept = {
            "rows": self.heads * answer * native * 8 + 2 * native**2 * self.number,
            "matrices": self.layers * native**2 * 4 + self.heads * min(native, ROWS_AT_ONCE) * native * 8,
            "graph": self.layers * native * self.width * self.number
            + (1 + self.together(native, samples)) * self.of_layer(native),
        }
        # What is kept of attention stands side by side, from the writing on, with its cache; matrices are gone before a graph is made.
        watched = sum(kept[each] for each in ("rows", "matrices") if each in keeps)
        graph = kept["graph"] + (kept["rows"] if "rows" in keeps else 0) if "graph" in keeps else 0
        return max(self.of_layer(longest), max(cache + watched, graph) + self.of_layer(native))

    def together(self, tokens: int, samples: int = 1) -> int:
        """For how many answer tokens of ``samples`` samples with this many tokens one backward pass is run."""
        return max(1, min(SEQUENCES_AT_ONCE // samples, 2 * TOKENS_AT_ONCE // (samples * tokens)))

    @property
    def of_logits(self) -> int:
        """Bytes of the largest piece of logits, with what is computed of it, whatever the batch."""
        return 3 * ROWS_AT_ONCE * self.vocabulary * 4


def _of_one_layer(text: PreTrainedConfig) -> tuple[int, int, int]:
    """Inner width, heads, and width of all keys, of a layer's own configuration."""
    heads = text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // heads
    inner = getattr(text, "intermediate_size", 4 * text.hidden_size)
    keys = (getattr(text, "num_key_value_heads", None) or heads) * head
    return inner if isinstance(inner, int) else max(inner), heads, keys


def samples_at_once(
    sizes: Sizes, tokens: Collection[int], answer: int, keeps: Collection[Keeps], most: int, memory: float | None
) -> int:
    """How many samples are explained in one batch, at most ``most``.

    memory : gigabytes beside the model's weights; None for ``TOKENS_AT_ONCE``. The rest as in ``of_sample``. Raises ValueError
    where one sample doesn't fit.
    """
    if memory is None:
        return max(1, min(most, TOKENS_AT_ONCE // max(tokens)))
    room = memory * 1e9 - sizes.of_logits
    for samples in range(most, 0, -1):
        if samples * sizes.of_sample(tokens, answer, keeps, samples) <= room:
            return samples
    needed = (sizes.of_sample(tokens, answer, keeps) + sizes.of_logits) / 1e9
    raise ValueError(
        f"memory={memory}: explaining {max(tokens)} tokens takes about {needed:.2g} GB beside the model; give more memory, a"
        " smaller max_pixels to load_mllm, smaller scales or fewer methods"
    )
