"""`python -m pairsmith.testing`: the fake endpoint, from a shell."""

from pairsmith.testing import main

main()
