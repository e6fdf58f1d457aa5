"""Run ``python -m fovea.bench``."""

import sys

from fovea.bench.command import main

sys.exit(main())
