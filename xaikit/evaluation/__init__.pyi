from . import claims as claims, protocols as protocols
from .ability import of_recognised as of_recognised, recognised as recognised
from .answers import answer_effects as answer_effects
from .cost import say_estimate as say_estimate
from .faithfulness import completeness as completeness
from .imputation import road as road
from .interventions import object_effects as object_effects, perturbation_agreement as perturbation_agreement
from .metrics import evaluate as evaluate, measurable as measurable, metric as metric
from .retrieval import retrieval_faithfulness as retrieval_faithfulness
from .sanity import sanity_cascade as sanity_cascade, seed_stability as seed_stability
from .tokens import (
    measure_answers as measure_answers,
    measure_faithfulness as measure_faithfulness,
    measure_tokens as measure_tokens,
    measured_words as measured_words,
)
