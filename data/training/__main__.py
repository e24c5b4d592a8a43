"""``python -m training NAME FOLDER``, from ``data/``: train a bundled model again, into a folder.
``python -m training guided FILE``: what resonance-guided training does, into a netCDF file."""

import sys

from . import retrain

if len(sys.argv) != 3:
    sys.exit(__doc__)
name, folder = sys.argv[1:]
if name.startswith("tiny-llava"):
    from .llava import retrain_llava

    retrain_llava(name, folder)
elif name == "guided":
    from .guided import guided

    guided(folder)
else:
    retrain(name, folder)
