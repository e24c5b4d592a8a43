"""Where each token of an image is in it, read off the processor and the vision tower themselves, whatever their class."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

MIXED = "its tokens mix distant places, as those of resamplers do, and stand for none"
BORDER = 2e-3  # of the image: what resizing blurs at its borders


@dataclass(frozen=True)
class Places:
    """Where the tokens of images of one size are.

    boxes : (tokens, 4), top, left, bottom and right of what an image token sees, in fractions of the image, beyond 0 to 1 where
    the processor pads; NaN for one that sees nothing, as a newline. grid : (rows, cols) of the cells, the finest tokens that
    tile the image; newlines and thumbnails are no cells, nor is mere padding unless all tokens are one grid. order :
    (rows * cols,) each cell's token, row-major. region : top, left, bottom, right of the grid. cell_of : of the pixels'
    shape, the cell in whose place an element is, -1 for none. fill : the mean colour, as pixels. frames : of a video, whose cells
    are those of one grid after the other, the first and the last frame that each grid sees; of an image one pair, of -1.
    """

    boxes: Tensor
    grid: tuple[int, int]
    order: Tensor
    region: tuple[float, float, float, float]
    cell_of: Tensor
    fill: float
    frames: tuple[tuple[int, int], ...] = ((-1, -1),)


def located_in_time(
    owner: Tensor, down: Tensor, across: Tensor, frame: Tensor, tokens: int, fill: float = 0.0
) -> Places:
    """The places of a video's tokens: of those that see the same frames as ``located`` has them.

    frame : of the pixels' shape, the number of the frame that an element is of, NaN for padding. The rest and what is raised as
    in ``located``, also where these grids differ.
    """
    seen, flat = ~frame.isnan() & (owner >= 0), owner.flatten()
    each, number = owner[seen], frame[seen].round().long()
    first = torch.full((tokens,), tokens + len(flat)).scatter_reduce(0, each, number, "amin")
    last = torch.full((tokens,), -1).scatter_reduce(0, each, number, "amax")
    known = (last >= 0).nonzero()[:, 0]
    times, group = torch.stack([first, last], 1)[known].unique(dim=0, return_inverse=True)
    boxes, cell_of = torch.full((tokens, 4), torch.nan), torch.full(flat.shape, -1, dtype=torch.int)
    parts, orders = [], []
    for time in range(len(times)):
        own = known[group == time]
        index = torch.full((tokens + 1,), -1)
        index[own] = torch.arange(len(own))
        between = (frame.flatten() >= times[time, 0]) & (frame.flatten() <= times[time, 1]) & (flat < 0)
        here = (index[flat] >= 0) | between
        parts.append(located(*(side.flatten()[here] for side in (index[owner], down, across)), len(own), fill))
        boxes[own] = parts[-1].boxes
        cells = parts[-1].cell_of
        cell_of[here] = torch.where(cells < 0, cells, cells + time * len(parts[-1].order))
        orders.append(own[parts[-1].order])
    if len({part.grid for part in parts}) > 1:
        raise ValueError("its frames are seen as grids of different sizes")
    frames = tuple((int(a), int(b)) for a, b in times)
    whole = torch.cat(orders)
    return Places(boxes, parts[0].grid, whole, parts[0].region, cell_of.view(owner.shape), fill, frames)


def located(owner: Tensor, down: Tensor, across: Tensor, tokens: int, fill: float = 0.0) -> Places:
    """The places of an image's tokens.

    owner : of the pixels' shape, the token that an element feeds, -1 for none. down, across : of that shape, where in the
    image it comes from, in fractions; NaN for padding. Raises ValueError, in one sentence, where the tokens tile no grid.
    """
    counts = owner[owner >= 0].bincount(minlength=tokens)
    each = int(counts.max()) if len(counts) else 0
    if not each or not ((counts == each) | (counts == 0)).all():
        raise ValueError("its tokens don't see equal parts of it, so that they have no grid")
    element = owner.flatten().argsort(stable=True)[int((owner < 0).sum()) :].view(-1, each)
    seen = counts.nonzero()[:, 0]
    sides = [values.flatten()[element] for values in (down, across)]
    known = ~sides[0].isnan() & ~sides[1].isnan()
    whole = _whole(sides, known)
    (y, height), (x, width) = (_fitted(side, known, own) for side, own in zip(sides, whole, strict=True))
    area = height * width
    full = area[known.all(1)] if known.all(1).any() else area[known.any(1)]
    finest = known.any(1) & (area < 1.5 * full.min())
    boxes = torch.full((tokens, 4), torch.nan)
    boxes[seen] = torch.stack([y - height / 2, x - width / 2, y + height / 2, x + width / 2], 1)
    boxes[seen[~known.any(1)]] = torch.nan
    cells = finest.nonzero()[:, 0]
    if not len(cells):
        raise ValueError(
            "its tokens show too little of it for their grid to be told: one of other proportions is needed"
        )
    row, top, bottom = _lattice(y[cells], height[cells].median())
    col, left, right = _lattice(x[cells], width[cells].median())
    rows, cols = int(row.max()) + 1, int(col.max()) + 1
    place = row * cols + col
    times = place.bincount(minlength=rows * cols)
    if not (times == times[0]).all():
        raise ValueError(f"its finest tokens, {len(place)} of them, don't tile a grid of {rows} x {cols}")
    # Of an image no larger than its thumbnail there are two tilings alike: the last is that of its own tiles.
    order = seen[cells[place.argsort(stable=True).view(rows * cols, -1)[:, -1]]]
    if len(seen) == tokens and len(order) < tokens and int(known.any(1).sum()) == len(order):
        order, (rows, cols), (top, left, bottom, right) = _with_padding(
            order.view(rows, cols), tokens, (top, left, bottom, right)
        )
    cell_of_token = torch.full((tokens + 1,), -1)
    cell_of_token[order] = torch.arange(rows * cols)
    in_row = ((down - top) / (bottom - top) * rows).nan_to_num(-1).floor().long()
    in_col = ((across - left) / (right - left) * cols).nan_to_num(-1).floor().long()
    inside = (in_row >= 0) & (in_row < rows) & (in_col >= 0) & (in_col < cols)
    cell_of = torch.where(
        cell_of_token[owner] < 0, torch.where(inside, in_row * cols + in_col, -1), cell_of_token[owner]
    )
    return Places(boxes, (rows, cols), order, (top, left, bottom, right), cell_of.int(), fill)


def _whole(sides: list[Tensor], known: Tensor) -> list[Tensor]:
    """Where the elements (elements,) of one token are along both axes, that of a small one in the middle of the image, or one
    put together from several where padding is in each."""
    full = known.all(1).nonzero()[:, 0]
    if len(full):
        area = torch.stack([side[full].amax(1) - side[full].amin(1) for side in sides]).prod(0)
        fine = full[area < 1.5 * area.min()]
        middle = torch.stack([side[fine].mean(1) - 0.5 for side in sides]).abs().sum(0).argmin()
        return [side[fine[middle]] for side in sides]
    most = known.sum(1).argmax()
    found = [torch.where(known[most], side[most], torch.nan) for side in sides]
    for _ in range(len(known)):
        known_too = ~found[0].isnan()
        if known_too.all():
            return found
        both = known & known_too
        for axis, (side, own) in enumerate(zip(sides, found, strict=True)):
            away = torch.where(both, side - own, 0).sum(1, keepdim=True) / both.sum(1, keepdim=True)
            found[axis] = torch.where(known_too, own, torch.where(known, side - away, torch.nan).nanmean(0))
    raise ValueError("no part of it is as large as a token, so that its grid can't be told")


def _fitted(side: Tensor, known: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and size (tokens,) along one axis, of tokens whose elements are at ``side`` (tokens, elements), which isn't known of
    padding: all tokens have the elements of one, at ``own`` (elements,), moved and stretched."""
    extent = own.max() - own.min()
    share = extent**2 / own.var(correction=0) / 12  # (k - 1) / (k + 1) for k evenly spaced places
    offset = (own - own.mean()) / (extent * (1 + share) / (2 * share))
    count = known.sum(1).clamp(min=1)
    values, weight = side.nan_to_num(0), known.float()
    offsets = offset * weight
    mean, middle = values.sum(1) / count, offsets.sum(1) / count
    centred = (offset - middle[:, None]) * weight
    square = centred.square().sum(1)
    size = (centred * values).sum(1) / square.clamp(min=1e-12)
    few = square / count < 0.02  # too narrow a strip to say how large the whole is
    size = torch.where(few, extent * (1 + share) / (2 * share), size)
    return mean - size * middle, size


def _lattice(centre: Tensor, step: Tensor) -> tuple[Tensor, float, float]:
    """Each cell's index along an axis and where the lattice starts and ends, an end at the image's border exactly there."""
    index = ((centre - centre.min()) / step).round().long()
    many = int(index.max()) + 1
    away = index - index.float().mean()
    if many > 1:
        step = (away * centre).sum() / away.square().sum()
    start = float(centre.mean() - step * (index.float().mean() + 0.5))
    ends = [start, start + float(step) * many]
    return index, *(float(round(end)) if abs(end - round(end)) < BORDER else end for end in ends)


def _with_padding(
    order: Tensor, tokens: int, region: tuple[float, ...]
) -> tuple[Tensor, tuple[int, int], tuple[float, ...]]:
    """Order, grid and region of all tokens, mere padding too, where they are one grid, row by row, of which ``order`` is a
    part; else as they are, so that all sizes of a padded image cover the same."""
    rows, cols = order.shape
    wide = int(order[1, 0] - order[0, 0]) if rows > 1 else 0
    first = int(order[0, 0])
    within = first + wide * torch.arange(rows)[:, None] + torch.arange(cols)
    if wide < cols or tokens % wide or first % wide + cols > wide or not torch.equal(order, within):
        return order.flatten(), (rows, cols), region
    top, left, bottom, right = region
    down, across, above, before = (bottom - top) / rows, (right - left) / cols, first // wide, first % wide
    top, left, high = top - above * down, left - before * across, tokens // wide
    return torch.arange(tokens), (high, wide), (top, left, top + high * down, left + wide * across)


def coordinates(
    pixels_of: Callable[[Tensor], Tensor], height: int, width: int, frames: int = 0
) -> tuple[Tensor, Tensor, Tensor | None, float]:
    """Where in an image each element of its pixels comes from, down and across, NaN for padding; of a video of so many frames
    also which frame; and the mean colour.

    pixels_of : what the processor makes of an image (3, height, width), or of frames (frames, 3, height, width), float from 0 to
    255. It is asked for black, white and the ramps; any resizing keeps a ramp.
    """
    ramps = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    shown = [image.expand(3, -1, -1) for image in (0 * ramps[0], 0 * ramps[0] + 1, *ramps)]
    if frames:
        time = torch.linspace(0, 1, frames).view(-1, 1, 1, 1).expand(-1, *shown[0].shape)
        shown = [*(image.expand(frames, -1, -1, -1) for image in shown), time]
    black, white, *found = (pixels_of(255 * image) for image in shown)
    span = white - black
    # Padding has none, and what is blurred with padding a part: the whole is what most elements have, a value a channel.
    level, place, count = (span / span.abs().max() * 1000).round().unique(return_inverse=True, return_counts=True)
    usual = level[(level != 0) & (count > 0.3 * count[level != 0].max())]
    whole = (level[:, None] - usual).abs().amin(1) <= 1  # rounding parts equal ones
    span = torch.where(whole[place], span, torch.nan)
    fill = 0.0 if black.min() < 0 else float(white.max()) / 2
    down, across, *time = ((values - black) / span for values in found)
    return down, across, time[0] * (frames - 1) if time else None, fill


def owners(features_of: Callable[[Tensor], Tensor], pixels: Tensor) -> tuple[Tensor, int]:
    """The token that each element of the pixels feeds, -1 for none, and how many tokens there are.

    features_of : features (tokens, D) of pixels, by a tower without mixing. Each bit of a token's number takes two backward
    passes: what feeds tokens with that bit has a gradient from these and none at all from the others, in any precision.
    Raises ValueError where an element feeds several tokens.
    """
    pixels = pixels.clone().requires_grad_()
    with torch.enable_grad():
        features = features_of(pixels)
    if not features.requires_grad:  # queries of a resampler's own
        raise ValueError(MIXED)
    count = len(features)
    number, generator = torch.arange(count, device=features.device), torch.Generator().manual_seed(0)
    signs = (torch.randint(0, 2, features.shape, generator=generator) * 2 - 1).to(features)

    def fed(tokens: Tensor) -> Tensor:
        return torch.autograd.grad(features, pixels, signs * tokens[:, None].to(signs), retain_graph=True)[0] != 0

    owner = fed(torch.ones_like(number)).long() - 1
    for bit in range((count - 1).bit_length()):
        one = number >> bit & 1
        yes, no = fed(one), fed(1 - one)
        if (yes & no).any():
            raise ValueError(MIXED)
        owner += yes.long() << bit
    return owner.cpu(), count


@contextmanager
def without_mixing(tower: nn.Module) -> Iterator[None]:
    """A vision tower whose layers give back what they get, for a while: a token depends on its own pixels alone."""
    stacks = [module for module in tower.modules() if isinstance(module, nn.ModuleList) and len(module)]
    layers = [layer for stack in stacks if all(map(_attends, stack)) for layer in stack]
    bare: set[type] = set()  # classes whose layers give back a tensor alone, as the first of them showed
    with ExitStack() as undo:
        for layer in layers:
            layer.forward = _identity(layer.forward, type(layer), bare)
            undo.callback(layer.__dict__.pop, "forward")
        yield


def _attends(layer: nn.Module) -> bool:
    return any("attn" in name or "attention" in name for name, _ in layer.named_children())


def _identity(forward: Callable, kind: type, bare: set[type]) -> Callable:
    def same(*args, **kwargs):
        given = args[0] if args else kwargs.get("hidden_states", kwargs.get("hidden_state"))
        if kind in bare:
            return given
        with torch.no_grad():
            found = forward(*args, **kwargs)
        if isinstance(found, tuple):
            return given, *found[1:]
        bare.add(kind)
        return given

    return same
