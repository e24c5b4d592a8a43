"""Figures from datasets, nothing else. Every function returns the figure and leaves no state behind."""

from .concepts import agreement_bars, concept_tree
from .interventions import ablation_points, suppression
from .maps import blocks, compare, extremes, gallery, overlay, words
from .measures import (
    cost_and_quality,
    curves,
    grid_scores,
    intervals_of,
    leaderboard,
    metric_points,
    score_table,
    training_curves,
)
from .protocols import protocol_curves
from .resonance import eigenvalue_plane, filmstrip, mode_maps, regime_maps, spectrum_bands
from .settings import settings_points
from .tokens import context_matrix, scales_side_by_side, token_comparison, token_strip
