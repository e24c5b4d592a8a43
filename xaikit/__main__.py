"""``python -m xaikit``: the command line."""

import sys

from .running.command_line import main

sys.exit(main())
