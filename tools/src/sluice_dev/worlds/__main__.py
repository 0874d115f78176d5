"""``python -m sluice_dev.worlds``: see ``--help``."""

from __future__ import annotations

import sys

from sluice_dev.worlds.command import main

sys.exit(main(sys.argv[1:]))
