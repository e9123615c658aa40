"""Jinja templates: strict; those of recipes also sandboxed, and bounded in size and time.

The text of a prompt or a completion is only ever a value, never a template. In a request, each such text stands between
two lines with a nonce that does not occur in it. So no text can pretend that it ends and that what follows comes from
pairsmith.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import meta, nodes

from pairsmith.errors import ConfigError, NoText
from pairsmith.ids import fingerprint
from pairsmith.text.bounds import MAX_RENDERED, time_bound
from pairsmith.text.sandbox import is_one_value, sandbox

_NONCE_LENGTH = 6


@lru_cache
def _environment(wing: str) -> jinja2.Environment:
    """For templates of ours alone: a sandbox asks at each attribute whether it is safe, which took as long as the rest
    of rendering."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader(wing),
        undefined=jinja2.StrictUndefined,
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.jinja",), default_for_string=False),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
        auto_reload=False,  # checking the files at each use took a twelfth of a run's processor time
    )


def render(wing: str, name: str, **values: Any) -> str:
    """Render a template that ships with a wing, such as `helpfulness.jinja` in `pairsmith.judging`."""
    return _environment(wing).get_template(name).render(values).strip()


def render_text(template: str, where: str, values: Mapping[str, Any]) -> str:
    """Render a template from a recipe, bounded in size and time.

    White space at either end is dropped, except that of a value which is the whole template. Raises ConfigError that
    names its field, `where`; NoText where it shows a list, a mapping or the like.
    """
    parts, size = [], 0
    try:
        alone = is_one_value(template)
        with time_bound():
            for part in compile_text(template.strip() if alone else template, where).generate(values):
                size += len(part)
                if size > MAX_RENDERED:
                    raise ConfigError(f"{where}: renders to more than {MAX_RENDERED} characters")
                parts.append(part)
    except NoText as error:
        raise NoText(f"{where}: {error}") from None
    except ConfigError:
        raise
    except Exception as error:  # an expression can raise anything, depending on the values
        raise ConfigError(f"{where}: {type(error).__name__}: {error}") from error
    text = "".join(parts)
    return text if alone else text.strip()


@lru_cache(maxsize=256)
def compile_text(template: str, where: str) -> jinja2.Template:
    try:
        return sandbox().from_string(template)
    except (jinja2.TemplateError, RecursionError, SyntaxError) as error:
        raise ConfigError(f"{where}: not a valid template: {error}") from error


@lru_cache(maxsize=256)
def names_in(template: str) -> frozenset[str]:
    """The variables that a template reads, and the texts in its expressions, which may name a field: `row['a b']`."""
    constants = sandbox().parse(template).find_all(nodes.Const)
    return variables_in(template) | {one.value for one in constants if isinstance(one.value, str)}


@lru_cache(maxsize=256)
def variables_in(template: str) -> frozenset[str]:
    """The variables that a template reads."""
    return frozenset(meta.find_undeclared_variables(sandbox().parse(template)))


def nonces(count: int, texts: Iterable[str], *seed: Any) -> list[str]:
    """`count` different hex marks that depend on `seed` and `texts`; none of them occurs in any of the texts.

    The seed should include ids made from the texts, so that the author of a text cannot know its mark.
    """
    everything, found, attempt = "\n".join(texts).lower(), list[str](), 0
    while len(found) < count:
        mark = fingerprint("nonce", attempt, *seed)[:_NONCE_LENGTH]
        attempt += 1
        if mark not in everything and mark not in found and not mark.isdigit():
            found.append(mark)
    return found


def transcript(messages: Iterable[dict[str, str]], system_prompt: str | None = None) -> str:
    """A chat as readable text. A single message without a system prompt is just its content."""
    chat = ([{"role": "system", "content": system_prompt}] if system_prompt else []) + list(messages)
    if len(chat) == 1:
        return chat[0]["content"]
    return "\n\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in chat)


def without_system(messages: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """The same chat with the system message in front of the first user message's text; it is one where there is none.

    >>> without_system([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
    [{'role': 'user', 'content': 'Be brief.\\n\\nHi'}]
    """
    chat = [dict(message) for message in messages]
    system = [message["content"] for message in chat if message["role"] == "system"]
    rest = [message for message in chat if message["role"] != "system"]
    first = next((message for message in rest if message["role"] == "user"), None)
    if first:
        first["content"] = "\n\n".join([*system, first["content"]])
        return rest
    return [*([{"role": "user", "content": "\n\n".join(system)}] if system else []), *rest]
