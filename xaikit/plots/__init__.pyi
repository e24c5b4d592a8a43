from .concepts import ablation_points as ablation_points, agreement_bars as agreement_bars, concept_tree as concept_tree
from .maps import (
    blocks as blocks,
    compare as compare,
    extremes as extremes,
    gallery as gallery,
    overlay as overlay,
    suppression as suppression,
    words as words,
)
from .measures import (
    cost_and_quality as cost_and_quality,
    grid_scores as grid_scores,
    intervals_of as intervals_of,
    leaderboard as leaderboard,
    metric_points as metric_points,
    paired_differences as paired_differences,
    protocol_curves as protocol_curves,
    score_table as score_table,
    settings_points as settings_points,
    training_curves as training_curves,
)
from .resonance import (
    eigenvalue_plane as eigenvalue_plane,
    filmstrip as filmstrip,
    mode_maps as mode_maps,
    regime_maps as regime_maps,
    spectrum_bands as spectrum_bands,
)
from .tokens import (
    context_matrix as context_matrix,
    scales_side_by_side as scales_side_by_side,
    token_cases as token_cases,
    token_strip as token_strip,
)
