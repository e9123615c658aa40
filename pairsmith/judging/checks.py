"""Programmatic judges: pure functions that judge a text without a model.

`judge_text` gives exactly one `Read` for any text. It has a score in [0, 1] (1 is best) and a rating (1 if the text
passes entirely, else 0), or neither and an error that says why there is no verdict. Only mistakes in the recipe or the
installation raise (ConfigError). Whatever a text could make very slow is bounded, in time or in length.
"""

from __future__ import annotations

import hashlib
import importlib
import numbers
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version
from threading import Lock
from typing import Any

import regex  # type: ignore[import-untyped]

from pairsmith.config import Check, ExactMatch, IfEval, JsonSchema, PythonCheck, Regex
from pairsmith.config.plugins import code_hash, load_plugin, said
from pairsmith.errors import ConfigError, PairsmithError
from pairsmith.ids import canonical_json, fingerprint, normalised, strict_json
from pairsmith.judging.readouts import NOT_APPLICABLE, Read
from pairsmith.protocol import Message

SECONDS = 1.0  # of processor time, for one text's patterns or schema
MOST_JSON = 1_000_000  # characters
MOST_IFEVAL = 30_000  # characters: the time of some patterns grows with the square of the length, here to seconds
_MAX_RATIONALE = 200  # characters of a rationale or error
_NEEDS = {
    "regex": ("regex",),
    "json-schema": ("jsonschema", "regex"),
    "ifeval": ("if-verifiable", "langdetect", "nltk"),
}
# What NLTK splits English texts into words and sentences by, which `ifeval` needs and no package brings.
_PUNKT = "tokenizers/punkt_tab/english/"
_PUNKT_FILES = ("abbrev_types.txt", "collocations.tab", "ortho_context.tab", "sent_starters.txt")
_PUNKT_COMMAND = "python -m nltk.downloader punkt_tab"
_BY_PUNKT = {"length_constraints:number_sentences", "change_case:capital_word_frequency"}
_NUMBER = regex.compile(
    r"(?P<sign>(?<![\w)\]}.])[-−])?[$€£¥]?"
    r"(?P<digits>[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]++|(?=\.[0-9]))(?P<rest>(?:\.[0-9]++)?(?:[eE][+-]?[0-9]{1,3})?+)"
)
_deadline: ContextVar[float] = ContextVar("deadline")
_loading = Lock()


def judge_text(
    check: Check, text: str, messages: Sequence[Message], reference: str | None, extras: Mapping[str, Any]
) -> Read:
    """The verdict of `check` on `text`, an answer to `messages`.

    `reference` and `extras` are the prompt's. Raises ConfigError if the check's function or package cannot be imported.
    """
    try:
        match check:
            case ExactMatch():
                return _exact_match(check, text, reference)
            case Regex():
                return _regex(check, text)
            case JsonSchema():
                return _json_schema(check, text)
            case IfEval():
                return _ifeval(check, text, extras)
            case PythonCheck():
                return _python(check, text, messages, reference)
    except PairsmithError:
        raise
    except (Exception, SystemExit) as error:  # from a library or from the user's own function
        return Read(error=_short(said(error)))


def check_hash(check: Check) -> str:
    """Hash of what decides a verdict beside the text, its prompt and our own code: the check, version and data of the
    package that it needs, and the sources of the user's own function. Raises ConfigError where something that the check
    needs is absent.
    """
    if isinstance(check, IfEval):
        _checkers_of(check)
    code = [version(name) for name in _NEEDS.get(check.kind, ())]
    if isinstance(check, IfEval) and (check.instructions is None or _BY_PUNKT & {*check.instructions}):
        code.append(_punkt_digest())
    if isinstance(check, PythonCheck):
        code.append(code_hash(check.callable))
    return fingerprint(check.model_dump(mode="json"), code)


def require(checks: Iterable[Check]) -> None:
    """Raise ConfigError where something is absent that a check needs from outside, with the command that installs it.

    To be called before anything is asked: a check that cannot run gives no rating.
    """
    for check in checks:
        check_hash(check)


def _verdict(score: float, rationale: str) -> Read:
    return Read(int(score >= 1), float(score), _short(rationale))


def _short(text: str) -> str:
    """A text made fit for a table: on one line, of bounded length, and valid Unicode."""
    line = " ".join(text[: 2 * _MAX_RATIONALE].split()).encode("utf-8", "replace").decode()
    return line if len(line) <= _MAX_RATIONALE else f"{line[: _MAX_RATIONALE - 1]}…"


def _exact_match(check: ExactMatch, text: str, reference: str | None) -> Read:
    if not (reference or "").strip():
        return Read(error=NOT_APPLICABLE)
    if check.last_number:
        wanted, given = _last_number(reference or ""), _last_number(text)
        if wanted is None:
            return Read(error="no number in the reference")
        answer = "no number" if given is None else f"ends in {given}"
        return _verdict(given == wanted, f"{answer}, the reference in {wanted}")
    wanted_text, given_text = _compared(check, reference or ""), _compared(check, text)
    if not wanted_text:
        return Read(error="the reference is nothing but punctuation")
    same = given_text == wanted_text
    return _verdict(same, "the same as the reference" if same else "differs from the reference")


def _compared(check: ExactMatch, text: str) -> str:
    text = normalised(text)
    if check.casefold:
        text = unicodedata.normalize("NFC", text.casefold())
    if check.strip_punctuation:
        text = " ".join("".join(char for char in text if unicodedata.category(char)[0] != "P").split())
    return text


def _last_number(text: str) -> Decimal | None:
    """The last number written in digits. A dash after a word or another number does not count as a minus sign.

    >>> _last_number("5-3 is 2, so #### $1,234.50.")
    Decimal('1234.50')
    """
    last = next(iter(deque(_NUMBER.finditer(text), maxlen=1)), None)
    return last and Decimal(("-" if last["sign"] else "") + last["digits"].replace(",", "") + last["rest"])


def _regex(check: Regex, text: str) -> Read:
    flags = regex.IGNORECASE * check.ignore_case | regex.MULTILINE * check.multiline | regex.DOTALL * check.dot_all
    pattern = regex.compile(check.pattern, flags)
    try:
        found = bool((pattern.fullmatch if check.whole else pattern.search)(text, timeout=SECONDS))
    except TimeoutError:
        return Read(error=f"the pattern takes more than {SECONDS:g} s on this text")
    wanted = ", which it must not" if check.negate else ""
    return _verdict(found != check.negate, f"{'matches' if found else 'does not match'} {check.pattern}{wanted}")


def _unfenced(text: str) -> str:
    """The content of the fence if the whole text is one; otherwise the text itself."""
    body = text.strip()
    first, _, rest = body.partition("\n")
    fenced = first.rstrip().lower() in ("```", "```json") and rest.endswith("```")
    return rest[:-3].strip() if fenced else body


def _json_schema(check: JsonSchema, text: str) -> Read:
    if len(text) > MOST_JSON:
        return Read(error=f"longer than {MOST_JSON} characters")
    try:
        value = strict_json(_unfenced(text))
    except RecursionError:
        return Read(error="nested too deeply")
    except ValueError as error:
        return _verdict(0, f"not JSON: {error}")
    from referencing import Registry

    schema = {key: part for key, part in check.schema_.items() if key != "$schema"}
    token = _deadline.set(time.thread_time() + SECONDS)
    try:
        validator = _validator(str(check.schema_.get("$schema", "")))(
            schema, registry=Registry()
        )  # jsonschema's default registry would access the network
        # Some keywords report in an order that differs between processes.
        wrong = min(validator.iter_errors(value), key=lambda e: (len(e.path), e.json_path, e.message), default=None)
    except TimeoutError:
        return Read(error=f"the schema takes more than {SECONDS:g} s on this text")
    finally:
        _deadline.reset(token)
    return _verdict(1, "fits the schema") if wrong is None else _verdict(0, f"{wrong.json_path}: {wrong.message}")


@lru_cache(maxsize=16)
def _validator(dialect: str) -> Any:
    """A draft's validator in which the keywords that can take forever are bounded in time. References are among them,
    since all recursion goes through them."""
    from jsonschema import Draft202012Validator, ValidationError, validators  # type: ignore[import-untyped]

    def left() -> float:
        seconds = _deadline.get() - time.thread_time()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    def pattern(validator: Any, wanted: str, value: Any, schema: Any) -> Iterator[Any]:
        if isinstance(value, str) and not regex.search(wanted, value, timeout=left()):
            yield ValidationError(f"does not match {wanted}")

    def unique(validator: Any, wanted: bool, value: Any, schema: Any) -> Iterator[Any]:
        if wanted and isinstance(value, list) and len({canonical_json(_whole(item)) for item in value}) < len(value):
            yield ValidationError("has an item twice")

    def bounded(keyword: Callable[..., Any]) -> Callable[..., Any]:
        def check(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
            left()
            yield from keyword(validator, wanted, value, schema) or ()

        return check

    stock = validators.validator_for({"$schema": dialect}, Draft202012Validator)
    references = {key: bounded(stock.VALIDATORS[key]) for key in stock.VALIDATORS if key.endswith(("Ref", "$ref"))}
    return validators.extend(stock, {**references, "pattern": pattern, "uniqueItems": unique})


def _whole(value: Any) -> Any:
    """A JSON value with 1.0 replaced by 1, since JSON schema treats them as the same."""
    if isinstance(value, dict):
        return {key: _whole(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_whole(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _ifeval(check: IfEval, text: str, extras: Mapping[str, Any]) -> Read:
    checkers, asked = _checkers_of(check), extras.get("instructions")
    if not asked:
        return Read(error=NOT_APPLICABLE)
    if not isinstance(asked, list) or not all(isinstance(item, dict) for item in asked):
        return Read(error="extras.instructions is not a list of instructions")
    if len(text) > MOST_IFEVAL:
        return Read(error=f"longer than {MOST_IFEVAL} characters")
    missed = []
    for item in asked:
        name = str(item.get("id")).removeprefix("en:")
        if name not in checkers:
            what = "instruction that the check does not name:" if check.instructions else "unknown instruction"
            return Read(error=_short(f"{what} {name}"))
        try:
            if not _follows(checkers[name](name), item.get("kwargs") or {}, text):
                missed.append(name)
        except Exception as error:
            problem = f"needs NLTK's data: {_PUNKT_COMMAND}" if type(error) is LookupError else said(error)
            return Read(error=_short(f"{name}: {problem}"))
    rationale = f"not {', '.join(missed)}" if missed else "all instructions followed"
    return _verdict(1 - len(missed) / len(asked), rationale)


def _follows(checker: Any, settings: Mapping[str, Any], text: str) -> bool:
    given = {key: _literal(key, value) for key, value in settings.items() if value is not None}
    checker.build_description(**given)
    taken, keys = checker.get_instruction_args() or {}, sorted(checker.get_instruction_args_keys())
    drawn = [key for key in keys if key not in given or _plain(taken.get(key)) != _plain(given[key])]
    if drawn:  # the library silently replaces an absent or unfit setting by a random one, such as a letter for a "!"
        raise ValueError(f"no usable {', '.join(drawn)}")
    return bool(text.strip() and checker.check_following(text))


def _plain(value: Any) -> str:
    return str(sorted(value) if isinstance(value, list) else value).strip().lower()


def _literal(key: str, value: Any) -> Any:
    """A setting with pattern characters escaped, where a checker would use its words as a pattern: one from a prompt's
    row could run for hours."""
    if isinstance(value, list):
        return [_literal(key, item) for item in value]
    if key not in ("keyword", "keywords", "forbidden_words", "section_spliter", "postscript_marker"):
        return value
    return regex.escape(value) if isinstance(value, str) and set(value) & set("*+?{}()[]|\\^$") else value


def _checkers_of(check: IfEval) -> dict[str, Any]:
    """Instruction -> the class that checks it, of those that prompts of this check may have. Raises ConfigError for one
    that there is not."""
    checkers = _ifeval_checkers()
    if check.instructions is None:
        return checkers
    if unknown := sorted({*check.instructions} - {*checkers}):
        raise ConfigError(
            f"check {check.name}: instructions: no such instruction: {', '.join(unknown)}; "
            f"there are {', '.join(sorted(checkers))}"
        )
    return {name: checkers[name] for name in check.instructions}


def _ifeval_checkers() -> dict[str, Any]:
    """Instruction -> the class that checks it, from the package `if-verifiable`."""
    try:
        registry = importlib.import_module("if_verifiable.ifeval.instructions_registry")
        langdetect = importlib.import_module("langdetect.detector_factory")
    except ImportError as error:
        raise ConfigError(f"check ifeval needs the extra: pip install 'pairsmith[ifeval]' ({error})") from error
    with _loading:  # langdetect loads its profiles on first use, which two threads must not do at once
        langdetect.DetectorFactory.seed = 0  # without a seed, its results vary from call to call
        langdetect.init_factory()
    return dict(registry.INSTRUCTION_DICT)


def _punkt_digest() -> str:
    """Digest of NLTK's data that `ifeval` uses. Raises ConfigError where it is absent."""
    data = importlib.import_module("nltk.data")
    try:
        folder = data.find(_PUNKT)
        contents = [folder.join(name).open().read() for name in _PUNKT_FILES]
    except (LookupError, OSError) as error:
        raise ConfigError(f"check ifeval needs NLTK's data: {_PUNKT_COMMAND}") from error
    return hashlib.sha256(b"\0".join(contents)).hexdigest()


def _python(check: PythonCheck, text: str, messages: Sequence[Message], reference: str | None) -> Read:
    function = load_plugin(check.callable)
    result = function(messages=[dict(message) for message in messages], text=text, reference=reference)
    if not isinstance(result, numbers.Real):
        return Read(error=_short(f"{check.callable} returned a {type(result).__name__}, not a bool or a number"))
    score = float(result)
    if not 0 <= score <= 1:
        return Read(error=_short(f"{check.callable} returned {score}, which is not in 0 to 1"))
    return _verdict(score, f"{check.callable} returned {score:g}")
