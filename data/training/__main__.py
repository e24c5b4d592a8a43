"""``python -m training tiny-clip FOLDER``, from ``data/``: train a bundled model again, into a folder."""

import sys

from . import STAGES, retrain
from .captioning import retrain_llava

name, folder = sys.argv[1:]
retrain(name, folder) if name in STAGES else retrain_llava(folder)
