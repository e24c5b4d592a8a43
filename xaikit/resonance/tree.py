"""The concepts of one sample as a graph, for drawing and for what networkx can ask of it."""

import networkx as nx
import numpy as np
import xarray as xr


def graph(concepts: xr.Dataset, sample) -> nx.DiGraph:
    """The concepts of one sample as nodes, with the dataset's variables as attributes, and its links as edges from the
    lower band to the upper one, with ``mutual_information`` and ``normalised_information``.

    Nodes have the numbers that ``link_source`` and ``link_target`` use. Raises ValueError for an unknown sample.
    """
    there = concepts.sample.values == sample
    if not there.any():
        raise ValueError(f"sample={sample!r}: the concepts are of samples {np.unique(concepts.sample.values).tolist()}")
    drawn = nx.DiGraph()
    for node in np.flatnonzero(there):
        one = concepts.isel(concept=node)
        scalars = {name: one[name].item() for name in ("sample", "band", "label", "energy", "silhouette")}
        drawn.add_node(int(node), mask=one["mask"].values, **scalars)
    for edge in np.flatnonzero(there[concepts.link_source.values]):
        one = concepts.isel(link=edge)
        shared = {name: one[name].item() for name in ("mutual_information", "normalised_information")}
        drawn.add_edge(one.link_source.item(), one.link_target.item(), **shared)
    return drawn
