"""``python3 -m inject`` is the command."""

from inject.cli import main

main()
