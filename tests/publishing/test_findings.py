"""What is taken for a secret or personal data, and what is not."""

from __future__ import annotations

import csv
import importlib.metadata
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pairsmith.config import Recipe
from pairsmith.config.screening import Finding, Screen
from pairsmith.errors import ConfigError
from pairsmith.planning.dry_run import plan_run
from pairsmith.publishing import findings
from pairsmith.publishing.findings import finder
from tests.conftest import shared

pytest.importorskip("kingfisher_sdk", reason="the extra `screen` is not installed")

GITHUB = "ghp_JBp7Rk2XwQ9sLz4TnVc8Ym3HgD6fKa1EuWb5"
STRIPE = "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"  # in two, so that scanners leave this file alone
KEY = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA7bq0sVw3Zk9XpL\n" * 8 + "-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        (f"token: {GITHUB}", GITHUB, "secret"),
        (f"Why is {STRIPE} refused?", STRIPE, "secret"),
        (KEY, "MIIEpAIBAAKCAQEA7bq0sVw3Zk9XpL", "secret"),
        ("postgres://app:kB4geqR7tWx2Lp@db.acme.io/prod", "kB4geqR7tWx2Lp", "secret"),
        ("Write to Jane (jane.doe+work@acme.io).", "jane.doe+work@acme.io", "email"),
        ("mailto:jürgen@bücher.de", "jürgen@bücher.de", "email"),
        ("call +380 (44) 364 55 85 now", "+380 (44) 364 55 85", "phone"),
        ("+4930901820", "+4930901820", "phone"),
        ("card 4111 1111 1111 1111, thanks", "4111 1111 1111 1111", "card"),
        ("3782-822463-10005", "3782-822463-10005", "card"),
        ("IBAN DE89 3704 0044 0532 0130 00.", "DE89 3704 0044 0532 0130 00", "iban"),
        ("GB82WEST12345698765432", "GB82WEST12345698765432", "iban"),
        ("My SSN is 219-09-9999.", "219-09-9999", "ssn"),
    ],
)
def test_found(text: str, value: str, kind: Finding) -> None:
    found = finder(Screen())(text)
    assert [one for one, what in found.items() if what == kind and value in one], found
    assert not finder(Screen(kinds=("ssn" if kind != "ssn" else "card",)))(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "your_email@example.com, a@b.test and root@localhost",
        "x = a @ b.T",
        "mongodb://username:password@localhost/db",
        "https://user:<password>@host.io and postgres://u:${DB_PASSWORD}@host.io",
        "password: hunter2",  # a word in prose is told from a secret by nobody
        "4111 1111 1111 1112 has a wrong check digit, and 1234567812345670 no issuer",
        "0.4111111111111111 and 4111111111111111.5",
        "DE00 3704 0044 0532 0130 00",
        "000-12-3456, 666-12-3456, 912-34-5678, 123-00-4567 and 1-219-09-9999",
        "x + 49.697 - 34.673, and + 62426244000",
        "631-481-4867 is a phone number of some country",
        "2023-11-29T05:46:01, 192.168.0.1, 2147483648, 550e8400-e29b-41d4-a716-446655440000",
        "[SECRET] [EMAIL] [PHONE] [CARD] [IBAN] [SSN]",
    ],
)
def test_not_found(text: str) -> None:
    assert not finder(Screen())(text)


def test_a_password_in_an_address_is_a_secret_and_no_email_address() -> None:
    found = finder(Screen())("postgres://app:kB4geqR7tWx2Lp@db.acme.io/prod")
    assert {*found.values()} == {"secret"}


def test_numbers_without_a_country_code_are_found_for_the_regions_that_a_recipe_names() -> None:
    find = finder(Screen(kinds=("phone",), phone_regions=("US", "GB")))
    assert {*find("call 631-481-4867 or 020 7946 0958")} == {"631-481-4867", "020 7946 0958"}
    assert not find("2147483648, 0.0496130162728, 5336352000")


def test_without_the_extra_a_recipe_that_asks_for_the_screen_is_refused(
    monkeypatch: pytest.MonkeyPatch, echo_recipe: Callable[..., Recipe]
) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(findings, "version", absent)
    with pytest.raises(ConfigError, match=r"publishing\.screen needs the extra: pip install 'pairsmith\[screen\]'"):
        plan_run(echo_recipe(publishing={"screen": {}}))
    plan_run(echo_recipe())


def test_real_prompts_and_answers_raise_few_alarms() -> None:
    """15 thousand texts: 2 addresses at a mail provider, 4 phone numbers, some made-up addresses; no secret."""
    find, told = finder(Screen()), set()
    for text in dict.fromkeys(text for name in ("prompts", "pairs", "gold") for text in _texts(name)):
        told |= {(kind, value) for value, kind in find(text).items()}
    assert {kind for kind, _ in told} == {"email", "phone"}
    assert len([one for one in told if one[0] == "phone"]) == 4
    assert len([one for one in told if one[0] == "email"]) == 13


def _texts(folder: str) -> Iterator[str]:
    for path in sorted(shared(folder).iterdir()):
        with path.open(encoding="utf-8", newline="") as lines:
            if path.suffix == ".jsonl":
                yield from _strings([json.loads(line) for line in lines if line.strip()])
            elif path.suffix == ".json":
                yield from _strings(json.load(lines))
            elif path.suffix == ".csv":
                yield from _strings([*csv.DictReader(lines)])


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _strings(one)


def test_texts_that_are_no_unicode_are_looked_at_too() -> None:
    assert {*finder(Screen())(f"\ud800 {GITHUB} \udfff\x00")} == {GITHUB}
    assert not finder(Screen())(f"{GITHUB[:9]}\ud800{GITHUB[9:]}")


def test_only_what_stands_in_a_text_is_found_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or masking would look for it for ever."""
    monkeypatch.setattr(findings, "_ssns", lambda text: iter(["219-09-9999"]))
    find = findings._finder.__wrapped__(Screen(kinds=("ssn",)))
    assert find("219-09-9999") == {"219-09-9999": "ssn"}
    assert not find("219-09-99 99")
