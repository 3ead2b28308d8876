"""``python -m spikelet``."""

import sys

from spikelet.cli import main

sys.exit(main())
