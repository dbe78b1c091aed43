"""``python -m her2path.cli``."""

from her2path.cli.app import main

main()
