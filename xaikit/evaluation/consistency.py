"""Whether a paper's claims agree with the numbers in the paper itself (``data/paper_tables.csv``)."""

import math
import re
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from ..files.paths import data_folder

Checked = tuple[bool, str]  # whether the claim agrees, and the arithmetic


def paper_tables() -> pd.DataFrame:
    """The papers' tables, a row a cell: paper, table ("text" for numbers in the text), dataset, method (there: place),
    column, which values are better, value, spread, and mark (bold, underlined or empty)."""
    known = {name: str for name in ("paper", "table", "dataset", "method", "column", "better", "mark")}
    return pd.read_csv(data_folder() / "paper_tables.csv", dtype=known).fillna({name: "" for name in known})


def inconsistencies(claims: pd.DataFrame, tables: pd.DataFrame) -> pd.DataFrame:
    """A row for each claim that can be checked inside its paper: claim, consistent, arithmetic."""
    rows = [
        (claim, *_CHECKS[claim](tables[tables.paper == paper], claimed))
        for claim, paper, claimed in claims[["claim", "paper", "claimed"]].itertuples(index=False)
        if claim in _CHECKS
    ]
    return pd.DataFrame(rows, columns=["claim", "consistent", "arithmetic"])


def _cells(tables: pd.DataFrame, table: str) -> pd.DataFrame:
    """The values of one table, methods x columns, in the paper's order."""
    part = tables[tables.table == table]
    return part.pivot(index="method", columns="column", values="value").loc[part.method.unique(), part.column.unique()]


def _oriented(tables: pd.DataFrame, table: str) -> pd.DataFrame:
    """The same, with the sign turned where lower is better."""
    part = tables[tables.table == table].drop_duplicates("column").set_index("column")
    cells = _cells(tables, table)
    return cells * part.better.map({"higher": 1, "lower": -1})[cells.columns]


def _fact(tables: pd.DataFrame, name: str) -> float:
    return tables[(tables.table == "text") & (tables.column == name)].value.item()


def _number(claimed: str) -> float:
    return float(re.search(r"[\d.]+", claimed).group())


def _relative(tables: pd.DataFrame, claimed: str, metric: str) -> Checked:
    """Whether a percentage over Grad-ECLIP is that of any cell, or the mean of a table's cells."""
    wanted = _number(claimed) * (-1 if metric == "deletion" else 1)
    found = []
    for table in ("2", "3"):
        cells = _cells(tables, table)
        cells = cells[[column for column in cells if metric in column]]
        for rival in ("Grad-ECLIP1", "Grad-ECLIP2"):
            found.append(100 * (cells.loc["MMEL"] / cells.loc[rival] - 1))
    own, rival = (_cells(tables, "2").loc[method, f"{metric} @1"] for method in ("MMEL", "Grad-ECLIP2"))
    given = pd.concat([*found, pd.Series([part.mean() for part in found])])
    text = (
        f"table 2, {metric} @1 against Grad-ECLIP2: {own:.4f} / {rival:.4f} - 1 = {100 * (own / rival - 1):+.1f} %; all cells"
        f" of tables 2 and 3, against both Grad-ECLIPs, and their means: {given.min():+.1f} to {given.max():+.1f} %;"
        f" nearest to {wanted:+.1f} %: {given.iloc[(given - wanted).abs().argmin()]:+.1f} %"
    )
    return bool(((given - wanted).abs() < 0.05).any()), text


def _drop(tables: pd.DataFrame, claimed: str) -> Checked:
    part = tables[(tables.table == "1") & tables.column.str.contains("drop")]
    rivals = sorted(set(part.method[part.method.str.contains("Grad-ECLIP")]))
    own = part[part.method == "MMEL"].value.tolist()
    text = (
        f"table 1 has {len(rivals)} rows of Grad-ECLIP, MMEL's drops there are {own[0]} and {own[1]}, and {part.better.iloc[0]} is"
        f" better, whereas the text counts {claimed} in favour of MMEL"
    )
    return bool(rivals) and _number(claimed) in own, text


def _bold(tables: pd.DataFrame, claimed: str) -> Checked:
    wrong, columns = [], 0
    for table in ("1", "2", "3"):
        oriented, cells = _oriented(tables, table), _cells(tables, table)
        marks = tables[(tables.table == table) & (tables.mark != "")]
        columns += cells.shape[1]
        for method, column, value, mark in marks[["method", "column", "value", "mark"]].itertuples(index=False):
            place = {"bold": 1, "underlined": 2}[mark]
            right = oriented[column].nlargest(place, keep="first").index[-1]
            if cells.loc[right, column] != value:
                name = {1: "best", 2: "second best"}[place]
                wrong.append(
                    f"table {table}, {column}: {mark} {value} ({method}), {name} {cells.loc[right, column]} ({right})"
                )
    return not wrong, f"{len(wrong)} wrong marks in {columns} columns; " + "; ".join(wrong)


def _best_throughout(tables: pd.DataFrame, claimed: str) -> Checked:
    ranks = _oriented(tables, "1").rank(ascending=False).loc["MMEL"].astype(int)
    places = ", ".join(f"{column} {rank}" for column, rank in ranks.items())
    return bool((ranks == 1).all()), f"MMEL's place among {len(_cells(tables, '1'))} methods in table 1: {places}"


def _like_kernel_shap(tables: pd.DataFrame, claimed: str) -> Checked:
    column = _cells(tables, "1")["text increase"]
    own, best = column["MMEL"], column["KS"]
    between = [f"{name} {value}" for name, value in column.items() if own < value < best]
    text = f"{own} is {best - own:.2f} ({100 * (1 - own / best):.1f} %) below KS's {best}; between them: {', '.join(between)}"
    return not between, text


def _surpasses_grad_eclip(tables: pd.DataFrame, claimed: str) -> Checked:
    worse, total = [], 0
    for table in ("2", "3"):
        oriented = _oriented(tables, table)
        own, best = oriented.loc["MMEL"], oriented.loc[["Grad-ECLIP1", "Grad-ECLIP2"]].max()
        total += len(own)
        worse += [
            f"table {table}, {name}: {abs(own[name])} against {abs(best[name])}" for name in own.index[own <= best]
        ]
    return not worse, f"MMEL is not better in {len(worse)} of {total} columns: {'; '.join(worse)}"


def _datasets(tables: pd.DataFrame, claimed: str, table: str | None = None) -> Checked:
    part = tables[tables.table.ne("text") if table is None else tables.table == table]
    names = sorted(set(part.dataset) - {""})
    where = f"table {table}" if table else "all tables"
    return len(names) == _number(
        claimed
    ), f"{where}: results for {len(names)} named datasets ({', '.join(names) or 'none'}); claimed: {claimed}"


def _medical(tables: pd.DataFrame, claimed: str) -> Checked:
    names = sorted(set(tables.dataset) - {""})
    return any("medical" in name.lower() for name in names), f"the tables are of {', '.join(names)}; none is medical"


def _announced(tables: pd.DataFrame, claimed: str, announced: str, done: str) -> Checked:
    first, second = _fact(tables, announced), _fact(tables, done)
    return first == second, f"{announced}: {first:.0f}; {done}: {second:.0f}"


def _tokens(tables: pd.DataFrame, claimed: str) -> Checked:
    size, patch = _fact(tables, "image size"), _fact(tables, "patch size of ViT-B/32")
    tokens, stated = (size / patch) ** 2 + 1, _fact(tables, "image tokens")
    fitting = size / math.sqrt(stated - 1)
    return (
        tokens == stated,
        f"({size:.0f} / {patch:.0f})^2 + 1 = {tokens:.0f}, not {stated:.0f}, which takes patches of {fitting:.0f}",
    )


def _learnable(tables: pd.DataFrame, claimed: str) -> Checked:
    layers, fitted, d = (
        int(_fact(tables, name))
        for name in ("layers with a weight", "parameters fitted by a loss", "width of the image tower")
    )
    counted = 3 + layers
    network = 2 * d * d + 2 * d + 2 * d * d + d + 2 * d
    text = (
        f"alpha, temperature, beta and {layers} layer weights are 3 + {layers} = {counted} numbers, and the learned network of"
        f" eq. 3 has 4 d^2 + 5 d = {network} more for d = {d}; of these a loss fits {fitted}"
    )
    return counted == _number(claimed) and fitted >= counted, text


def _layer_weights(tables: pd.DataFrame, claimed: str) -> Checked:
    before, after = _fact(tables, "layer weights before tuning"), _fact(tables, "layer weights after tuning")
    text = (
        f"before tuning {before}, after it {after}, for all {_fact(tables, 'layers with a weight'):.0f} layers: softplus"
        f" makes it {math.log1p(math.exp(after)):.3f} everywhere, one factor for all, which balances nothing"
    )
    return before != after, text


def _scales(tables: pd.DataFrame, claimed: str) -> Checked:
    """Equations 1 to 5 on random tokens, with linear layers without a bias."""
    rng, d = np.random.default_rng(0), 64
    x, first, second = rng.normal(size=(49, d)), rng.normal(size=(d, 2 * d)), rng.normal(size=(2 * d, d))

    def attention(scale: float) -> np.ndarray:
        t = np.maximum(scale * x @ first, 0) @ second
        t = t - t.mean(1, keepdims=True)  # LayerNorm: its division by a standard deviation is undone by the next line
        t = t / np.linalg.norm(t, axis=1, keepdims=True)
        return t @ t.T / math.sqrt(d)

    large, *smaller = (_fact(tables, f"{which} scale") for which in ("largest", "middle", "smallest"))
    whole = attention(large)
    change = max(np.abs(attention(scale) - whole).max() for scale in smaller) / np.abs(whole).max()
    text = (
        f"A at scales {' and '.join(map(str, smaller))} differs from that at {large} by {change:.0e} of its largest value, biases"
        " aside: the normalisations divide a factor out again"
    )
    return bool(change > 1e-6), text


def _srm_deletion(tables: pd.DataFrame, claimed: str) -> Checked:
    column = _cells(tables, "1")["deletion"]
    marked, defined = (int(column.rank(ascending=up)["SRM"]) for up in (False, True))
    text = (
        f"with higher as better, as marked, SRM's {column['SRM']} is number {marked} of {len(column)}; with lower as better, as"
        f" deletion is defined, number {defined}"
    )
    return marked == defined, text


_CHECKS: dict[str, Callable[[pd.DataFrame, str], Checked]] = {
    "mmel-deletion-17": partial(_relative, metric="deletion"),
    "mmel-insertion-21": partial(_relative, metric="insertion"),
    "mmel-drop-34": _drop,
    "mmel-bold": _bold,
    "mmel-consistent-table-1": _best_throughout,
    "mmel-text-like-ks": _like_kernel_shap,
    "mmel-all-benchmarks": _surpasses_grad_eclip,
    "mmel-table-1-coco": partial(_datasets, table="1"),
    "mmel-three-datasets": partial(_announced, announced="datasets announced", done="datasets listed"),
    "mmel-medical": _medical,
    "mmel-tokens-197": _tokens,
    "mmel-four-learnable": _learnable,
    "mmel-layer-weights": _layer_weights,
    "mmel-scales-cancel": _scales,
    "srm-deletion-up": _srm_deletion,
    "srm-human": partial(_announced, announced="human evaluations announced", done="human evaluations reported"),
    "srm-three-datasets": _datasets,
}
