from . import claims as claims, protocols as protocols
from .metrics import evaluate as evaluate, metric as metric
from .sanity import sanity_cascade as sanity_cascade, seed_stability as seed_stability
from .tokens import (
    measure_faithfulness as measure_faithfulness,
    measure_tokens as measure_tokens,
    measured_words as measured_words,
)
