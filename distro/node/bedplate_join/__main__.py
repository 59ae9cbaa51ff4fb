"""``python3 -m bedplate_join``."""

import sys

from bedplate_join.cli import main

sys.exit(main(sys.argv[1:]))
