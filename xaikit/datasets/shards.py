"""Shares of a dataset, "i/k": which samples each takes, whoever computes them and however many there are."""

import re
from dataclasses import dataclass

BLOCK = 32  # samples computed and stored together


@dataclass(frozen=True)
class Block:
    """``BLOCK`` samples in a row, the last block perhaps fewer: its number, and the rows of the source."""

    number: int
    rows: slice

    def __len__(self) -> int:
        return self.rows.stop - self.rows.start


def parse_shard(shard: str | None) -> tuple[int, int]:
    """i and k of "i/k", 1 <= i <= k; (1, 1) for None. Raises ValueError for anything else."""
    if shard is None:
        return 1, 1
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", shard) if isinstance(shard, str) else None
    share, of = map(int, found.groups()) if found else (0, 0)
    if not 1 <= share <= of:
        raise ValueError(f"shard={shard!r}: a share such as '3/16' is needed, from '1/16' to '16/16'")
    return share, of


def in_names(shard: str | None) -> str:
    """What tells the files of a share apart: ".3-of-16" for "3/16", nothing for None."""
    return "" if shard is None else "." + shard.replace("/", "-of-")


def blocks_of(n: int, shard: str | None = None) -> list[Block]:
    """The blocks of n samples that belong to a share: of k shares the i-th takes every k-th block, from the i-th on.

    Which samples a block holds depends on their places alone, so shares of any division agree on them, and samples that
    are added at the end move no other. Where there are more shares than blocks, those beyond take one that another takes as
    well, so that each has something to compute, or to find done.
    """
    share, of = parse_shard(shard)
    starts = range(0, n, BLOCK)
    first = (share - 1) % len(starts)
    return [Block(k, slice(starts[k], min(starts[k] + BLOCK, n))) for k in range(first, len(starts), of)]
