"""The papers' protocols on any source of samples: computed in parts that can be shared out, and put into their tables."""

from .class_curves import classification
from .drop_and_increase import confidence
from .foil_choice import foil_images
from .measuring import measured
from .retrieval_embeddings import retrieval
from .tables import bad_samples, beside_paper, table
from .winoground_pairs import winoground

__all__ = [
    "bad_samples",
    "beside_paper",
    "classification",
    "confidence",
    "foil_images",
    "measured",
    "retrieval",
    "table",
    "winoground",
]
