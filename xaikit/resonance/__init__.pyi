from .adversarial import suppress_resonance as suppress_resonance
from .change_points import phases as phases
from .concept_truth import (
    agreement as agreement,
    cluster_patches as cluster_patches,
    planted_hierarchy as planted_hierarchy,
)
from .concepts import concept_hierarchy as concept_hierarchy
from .coupling import COUPLINGS as COUPLINGS, TEMPERATURES as TEMPERATURES
from .end_points import fixed_points as fixed_points, outcomes as outcomes, regimes as regimes
from .interventions import ablate_modes as ablate_modes
from .modes import dynamic_modes as dynamic_modes
from .nulls import null_spectra as null_spectra, peaks as peaks, shuffled_weights as shuffled_weights
from .recursion import Recursion as Recursion, patch_features as patch_features, resonate as resonate
from .spectra import spectrum as spectrum
