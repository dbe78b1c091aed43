"""``python -m her2path``."""

from her2path.cli.app import main

main()
