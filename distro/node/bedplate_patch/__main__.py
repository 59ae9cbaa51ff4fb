"""``python3 -m bedplate_patch``."""

import sys

from bedplate_patch.cli import main

sys.exit(main(sys.argv[1:]))
