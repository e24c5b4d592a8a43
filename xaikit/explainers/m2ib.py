"""M2IB: what must pass an information bottleneck for the pair to stay similar (Wang et al. 2023)."""

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clip.model import Clip
from ..clip.perturbation import at_once
from ..clip.score import content_of, other_embedding
from ..clip.tape import record
from ..clip.towers import tower
from ..files.checks import check_number, check_whole
from .registry import method


@method(
    sides=("image", "text"),
    source="Wang et al., Visual Explanations of Image-Text Representations via M2IB, NeurIPS 2023",
    needs="tokens",
    stochastic=True,
)
def m2ib(
    clip: Clip,
    pixels: Tensor,
    tokens: Tensor,
    *,
    of: str,
    block: int | None = None,
    beta: float = 0.1,
    steps: int = 10,
    rate: float = 1.0,
    copies: int = 10,
    noise: bool = True,
    seed: int = 0,
    reference: bool = False,
) -> Tensor:
    """For each token the information, in nats, that the bottleneck t lets pass: KL(t | h) against a standard normal.

    The output h of ``block`` (None for the third from the end, which is index 9 of 12 as released) becomes
    t = lam * h + (1 - lam) * noise, lam = sigmoid(a); a, of the shape of h and 5 at first, is fitted for each sample by
    ``steps`` steps of Adam with learning rate ``rate`` on beta * mean KL - mean cosine over ``copies`` draws of the
    noise. KL = -(1 + log (1 - lam)^2 - (lam h)^2 - (1 - lam)^2) / 2, summed over channels. All samples share the noise,
    drawn with ``seed``; noise=False leaves it out. reference: the released code's map, of the last forward
    pass and so one step earlier.

    The released HF path is meant; the released ClipWrapper runs another text model (no causal mask, projected twice).
    """
    total = len(tower(clip, of).blocks)
    block = max(total - 3, 0) if block is None else block
    check_whole(0, total - 1, block=block)
    check_number(0, 100, open_low=True, beta=beta, rate=rate)
    check_whole(1, 1000, steps=steps, copies=copies)
    copies = copies if noise else 1  # without noise all copies are the same
    others, maps = other_embedding(clip, pixels, tokens, of).float(), []
    tokens = tokens.to(pixels.device)
    own, encode = (pixels, clip.encode_image) if of == "image" else (tokens, clip.encode_text)
    size = max(1, at_once(pixels.device) // copies)
    updates = steps - 1 if reference else steps
    for inputs, other, words in zip(own.split(size), others.split(size), tokens.split(size), strict=True):
        with record(clip, of, [block]) as tape:
            encode(inputs)
        hidden = tape[block].output
        end = clip.text_end(words) if of == "text" else None  # behind it nothing has a bottleneck
        position = torch.arange(hidden.shape[1], device=hidden.device).expand(len(hidden), -1)
        scope = torch.ones_like(position, dtype=torch.bool) if end is None else position <= end[:, None]
        problem = _Bottleneck(hidden.float(), scope, beta, copies, seed if noise else None)
        optimiser = torch.optim.Adam([problem.alpha], lr=rate)
        repeated, target = inputs.repeat_interleave(copies, 0), other.repeat_interleave(copies, 0)
        for _ in range(updates):
            leaf = problem.sample().to(hidden.dtype).requires_grad_()
            with torch.enable_grad(), starting_after(clip, of, block, leaf):
                cosine = (encode(repeated).float() * target).sum()
            problem.alpha.grad = problem.gradient(torch.autograd.grad(cosine, leaf)[0].float())
            optimiser.step()
        maps.append(problem.information().sum(-1))
    return content_of(clip, torch.cat(maps), tokens, of)


class _Bottleneck:
    """The bottlenecks of some samples. Each sample's loss is its own, so one Adam state serves all."""

    def __init__(self, hidden: Tensor, scope: Tensor, beta: float, copies: int, seed: int | None):
        self.hidden, self.scope, self.beta, self.copies = hidden, scope[..., None], beta, copies
        self.alpha = nn.Parameter(torch.full_like(hidden, 5.0))
        self.count = scope.sum(1)
        # A prompt's noise has the shape that it would have alone, so that it does not depend on the batch.
        self.draws = {
            n: None if seed is None else torch.Generator().manual_seed(int(seed)) for n in set(self.count.tolist())
        }

    @torch.no_grad()
    def sample(self) -> Tensor:
        """t for each sample and copy, (n * copies, tokens, width); h itself outside the scope."""
        n, tokens, width = self.hidden.shape
        self.noise = self.hidden.new_zeros(n, self.copies, tokens, width)
        for length, draw in self.draws.items():
            if draw is not None:
                drawn = torch.randn(self.copies, length, width, generator=draw).to(self.noise)
                self.noise[self.count == length, :, :length] = drawn
        bottled = self.alpha.sigmoid() * self.hidden
        mixed = bottled[:, None] + (-self.alpha).sigmoid()[:, None] * self.noise
        return torch.where(self.scope[:, None], mixed, self.hidden[:, None]).flatten(0, 1)

    @torch.no_grad()
    def gradient(self, at_sample: Tensor) -> Tensor:
        """d loss / d alpha from the gradient of the sum of all cosines at the sample."""
        passing, blocked = self.alpha.sigmoid(), (-self.alpha).sigmoid()
        by_copy = at_sample.unflatten(0, (-1, self.copies)) * (self.hidden[:, None] - self.noise)
        # d KL / d lam * d lam / d alpha: 1 / blocked times blocked is 1, also where no float is as small as blocked
        information = passing + (passing * self.hidden.square() - blocked) * passing * blocked
        information = self.beta * information / (self.count * self.hidden.shape[2])[:, None, None]
        return (information - by_copy.mean(1) * passing * blocked) * self.scope

    @torch.no_grad()
    def information(self) -> Tensor:
        """KL of every channel (n, tokens, width)."""
        blocked = (-self.alpha).sigmoid()
        kl = -0.5 * (
            1 + 2 * F.logsigmoid(-self.alpha) - (self.alpha.sigmoid() * self.hidden).square() - blocked.square()
        )
        return kl * self.scope


@contextlib.contextmanager
def starting_after(clip: Clip, side: str, block: int, hidden: Tensor) -> Iterator[None]:
    """Inside the ``with`` statement the tower's blocks up to this one do nothing, and give ``hidden``."""
    skipped = tower(clip, side).blocks[: block + 1]
    before = [vars(module).get("forward") for module in skipped]
    try:
        for module in skipped:
            module.forward = lambda *args, **kwargs: hidden
        yield
    finally:
        for module, forward in zip(skipped, before, strict=True):
            if forward is None:
                del module.forward
            else:
                module.forward = forward
