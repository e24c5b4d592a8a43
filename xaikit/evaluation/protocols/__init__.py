"""The papers' protocols on any source of samples: computed in parts that can be shared out, and put into their tables."""

from ..retrieval import retrieval
from .faithfulness import classification, confidence
from .pairs import foil_images, winoground
from .tables import bad_samples, beside_paper, measured, table

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
