"""Database drivers."""

from __future__ import annotations

import sqlalchemy as sa


def with_driver(url: sa.URL) -> sa.URL:
    """A URL that names the driver: SQLAlchemy's own choice for PostgreSQL was another before 2.1."""
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url
