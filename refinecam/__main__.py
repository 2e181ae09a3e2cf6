"""``python -m refinecam`` is the console script."""

from refinecam.cli import main

main()
