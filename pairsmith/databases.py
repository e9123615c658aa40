"""Databases by their URL."""

from __future__ import annotations

import sqlalchemy as sa


def parse_url(url: str) -> sa.URL:
    """A database's URL; `postgresql://` means psycopg 3, which pairsmith[postgres] brings.

    Raises sqlalchemy.exc.ArgumentError where it is none.
    """
    parsed = sa.make_url(url)
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed
