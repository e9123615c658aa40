"""Record the code of the steps anew, where each still makes its golden tables or its number was raised.

python -m tests.revisions
"""

from __future__ import annotations

import sys

from tests.revisions.record import FILE, Record, current, recorded, refusals, write


def main() -> int:
    new = current()
    refused = refusals(recorded() if FILE.exists() else Record({}, {}), new)
    if not refused:
        write(new)
    print("\n".join(refused) or f"{FILE} is renewed")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
