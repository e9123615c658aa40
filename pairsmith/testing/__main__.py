"""The fake endpoint as a program: `python -m pairsmith.testing --help`."""

from pairsmith.testing import main

main()
