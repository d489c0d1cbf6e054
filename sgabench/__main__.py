"""``python -m sgabench``."""

from sgabench.cli import main

main()
