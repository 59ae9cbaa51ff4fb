"""``python -m bedplate``."""

from bedplate.cli.main import main

main()
