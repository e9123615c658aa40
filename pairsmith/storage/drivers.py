"""Database drivers."""

from __future__ import annotations

import sqlalchemy as sa


def with_driver(url: sa.URL) -> sa.URL:
    """The URL with its driver named, since SQLAlchemy's default for PostgreSQL was another one before 2.1."""
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url
