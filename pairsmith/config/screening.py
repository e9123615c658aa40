"""The screen before publishing: what it looks for in texts, and what becomes of what it finds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from pairsmith.config.base import Config

Finding = Literal["secret", "email", "phone", "card", "iban", "ssn"]
FINDINGS: tuple[Finding, ...] = ("secret", "email", "phone", "card", "iban", "ssn")


class Screen(Config):
    """A screen for secrets and personal data in all texts that are published. It needs the extra `screen`."""

    kinds: tuple[Finding, ...] = Field(
        FINDINGS,
        min_length=1,
        description="what is looked for: keys, tokens and passwords (secret), email addresses, phone numbers, numbers "
        "of payment cards, bank accounts (iban) and of US social security (ssn); all by default",
    )
    action: Literal["count", "mask", "drop"] = Field(
        "count",
        description="count: only say how much was found; mask: put a marker such as [EMAIL] in its place in all texts "
        "of a row; drop: an answer with a finding is in no pair, and a prompt with one has none",
    )
    phone_regions: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")], ...] = Field(
        (),
        description="countries, such as US, whose phone numbers are also found without a country code; by default only "
        "numbers that begin with + are",
    )
