"""Finds secrets and personal data in a text, with kept libraries that ask no model and nothing of the network.

Kingfisher's rules find secrets, libphonenumber phone numbers, and `validators` checks what looks like an email address,
a card or an account: their check digits, lengths and issuers. Names and postal addresses are not found. A finding is
the text itself, so it never leaves this module and `screen` but as its kind.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pairsmith.config.screening import Finding, Screen
from pairsmith.errors import ConfigError

MARKERS: Mapping[Finding, str] = {
    "secret": "[SECRET]",
    "email": "[EMAIL]",
    "phone": "[PHONE]",
    "card": "[CARD]",
    "iban": "[IBAN]",
    "ssn": "[SSN]",
}
Found = Mapping[str, Finding]  # what was found in a text, and its kind
Find = Callable[[str], Found]

_making = threading.Lock()  # shards are worked on side by side, and the first ones would each read all rules

_PACKAGES = ("kingfisher-secret-scanner", "phonenumberslite", "validators")
_ISSUERS = ("visa", "mastercard", "amex", "discover", "diners", "jcb", "unionpay")
_LOGIN = re.compile(r"://[^\s/@]{0,200}\Z")  # before the password of an address, which no email address is
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
# Set aside for examples by https://www.rfc-editor.org/rfc/rfc2606
_EXAMPLE = re.compile(r"(?:.*[@.])(?:example(?:\.(?:com|net|org))?|test|invalid|localhost)", re.IGNORECASE)
_DIGITS = re.compile(r"[0-9]{4}")  # what every number below has
_CARD = re.compile(r"(?<![\w.])[2-6][0-9]{3}(?:[ -]?[0-9]){8,15}(?!\w|\.[0-9])")
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_SSN = re.compile(r"(?<![\w-])(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![\w-])")
_PLUS = re.compile(r"\+\(?[0-9]")
_GROUPS = re.compile(r"[0-9][)\s-]{1,2}[0-9]|[0-9]\.[0-9]+\.[0-9]")  # an amount or an id has no groups
_PLAIN = re.compile(r"\W*(?:[a-z]+|[A-Z]+|[A-Z]?[a-z_]+|[A-Z_]+)\W*")  # a word that stands for a password


def require(settings: Screen | None) -> None:
    """Raise ConfigError where a recipe asks for the screen and its libraries are not installed."""
    if settings:
        identity(settings)


def identity(settings: Screen) -> list[Any]:
    """What decides findings: the settings, and which rules the libraries have. Raises ConfigError without them."""
    try:
        return [settings.model_dump(mode="json"), [version(name) for name in _PACKAGES]]
    except PackageNotFoundError as error:
        raise ConfigError(
            f"publishing.screen needs the extra: pip install 'pairsmith[screen]' ({error.name} is not installed)"
        ) from error


def finder(settings: Screen) -> Find:
    """What finds in a text all that the settings ask for. It is made once in a process, which takes a moment."""
    with _making:
        return _finder(settings)


@cache
def _finder(settings: Screen) -> Find:
    require(settings)
    made: Mapping[str, Callable[[], Callable[[str], Iterable[str]]]] = {
        "secret": _secrets,
        "email": _emails,
        "phone": lambda: _phones(settings.phone_regions),
        "card": _cards,
        "iban": _ibans,
        "ssn": lambda: _ssns,
    }
    tools = [(kind, made[kind]()) for kind in dict.fromkeys(settings.kinds)]

    def find(text: str) -> Found:
        found: dict[str, Finding] = {}
        for kind, look in tools:
            for value in look(text):
                if value in text:  # a library may have read the text in another form
                    found.setdefault(value, kind)
        return found

    return find


def _secrets() -> Callable[[str], list[str]]:
    from kingfisher_sdk import Scanner

    scanner = Scanner(base64=False)

    def look(text: str) -> list[str]:
        found = scanner.scan(text.encode("utf-8", "replace"))  # half a surrogate is no UTF-8
        if not any(one.visible for one in found):  # some are only parts of a secret, such as a name beside a key
            return []
        return [one.secret for one in found if not _PLAIN.fullmatch(one.secret)]

    return look


def _emails() -> Callable[[str], Iterator[str]]:
    import validators

    def look(text: str) -> Iterator[str]:
        for match in _EMAIL.finditer(text) if "@" in text else ():
            if _LOGIN.search(text, max(0, match.start() - 200), match.start()) or _EXAMPLE.fullmatch(match[0]):
                continue
            if validators.email(match[0]):
                yield match[0]

    return look


def _phones(regions: Iterable[str]) -> Callable[[str], Iterator[str]]:
    from phonenumbers import Leniency, PhoneNumberMatcher

    def look(text: str) -> Iterator[str]:
        if _PLUS.search(text):
            for match in PhoneNumberMatcher(text, None):
                if _PLUS.match(match.raw_string):
                    yield match.raw_string
        for region in regions if _DIGITS.search(text) else ():
            for match in PhoneNumberMatcher(text, region, leniency=Leniency.STRICT_GROUPING):
                if _GROUPS.search(match.raw_string):
                    yield match.raw_string

    return look


def _cards() -> Callable[[str], Iterator[str]]:
    import validators

    is_of = [getattr(validators, issuer) for issuer in _ISSUERS]

    def look(text: str) -> Iterator[str]:
        for match in _CARD.finditer(text) if _DIGITS.search(text) else ():
            digits = re.sub("[ -]", "", match[0])
            if any(issued(digits) for issued in is_of):
                yield match[0]

    return look


def _ibans() -> Callable[[str], Iterator[str]]:
    import validators

    def look(text: str) -> Iterator[str]:
        for match in _IBAN.finditer(text) if _DIGITS.search(text) else ():
            if validators.iban(match[0].replace(" ", "")):
                yield match[0]

    return look


def _ssns(text: str) -> Iterator[str]:
    if _DIGITS.search(text):
        for match in _SSN.finditer(text):
            yield match[0]
