from .adversarial import suppress_resonance as suppress_resonance
from .concepts import (
    agreement as agreement,
    cluster_patches as cluster_patches,
    concept_hierarchy as concept_hierarchy,
    planted_hierarchy as planted_hierarchy,
)
from .coupling import COUPLINGS as COUPLINGS, TEMPERATURES as TEMPERATURES
from .end_points import COMPLEX as COMPLEX, fixed_points as fixed_points, outcomes as outcomes, regimes as regimes
from .interventions import ablate_modes as ablate_modes
from .modes import dynamic_modes as dynamic_modes, phases as phases
from .recursion import (
    Recursion as Recursion,
    arrival as arrival,
    patch_features as patch_features,
    resonate as resonate,
)
from .spectra import (
    null_spectra_of as null_spectra_of,
    peaks as peaks,
    shuffled_weights as shuffled_weights,
    spectrum as spectrum,
)
