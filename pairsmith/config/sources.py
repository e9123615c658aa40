"""Where prompts are read from, and which completions and ratings come with them."""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, model_validator

from pairsmith.config.base import Config, Name, compiles, known, without_password
from pairsmith.config.models import SECRET_HEADER

_SUFFIXES = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet",
}  # fmt: skip
LayoutName = Literal[
    "auto", "messages", "llama-factory", "alpaca", "dolly", "choices", "context", "preference", "orca", "prompt",
    "sharegpt", "implicit-preference", "hh-rlhf", "transcript",
]  # fmt: skip
_PUBLISHED = re.compile(
    r"(chosen|rejected)(_\w+)?|prompt|prompt_id|(score_)?margin|similarity|strategy|source|kept|completion|label"
)


class Columns(Config):
    """Where to find the parts of a prompt in a row.

    Each is a column's name, a dotted path into nested values (`instances.0.input`), or a Jinja template over the
    row (`"{{ instruction }}\\n\\n{{ instances[0].input }}"`). A template shows text, numbers and booleans; a null is
    nothing, and a list or a mapping needs `|join(', ')` or `|tojson`. Without a mapping of the prompt, a row is read by
    its layout (docs/layouts.md), and system_prompt, reference and source by these names.
    """

    prompt: str | None = Field(None, description="text, or list of user turns (see turns)")
    messages: str | None = Field(
        None, description="chat: a list of messages in any of the forms of docs/layouts.md, or text that holds one"
    )
    system_prompt: str | None = Field(None, description="system prompt, part of the published prompt")
    reference: str | None = Field(None, description="a known good answer, shown to the judges")
    source: str | None = Field(None, description="origin of the row, for example a data set's name")
    instructions: str | None = Field(None, description="IFEval's ids of verifiable instructions: a list of names")
    instruction_kwargs: str | None = Field(
        None, description="settings of those instructions, in the same order: a list of objects"
    )
    turns: Literal["first", "joined"] = Field(
        "first", description="a list of user turns: take the first, or join all into one message"
    )

    @model_validator(mode="after")
    def _one_of(self) -> Columns:
        if self.prompt and self.messages:
            raise ValueError("columns: name either prompt or messages, not both")
        for name in ("prompt", "messages", "system_prompt", "reference", "source"):
            mapped = getattr(self, name)
            if mapped and ("{{" in mapped or "{%" in mapped):
                compiles(mapped, f"columns.{name}")
        return self


class Written(Config):
    """Where to find one completion and its ratings: columns' names, dotted paths or templates, as in a source's
    `columns`.

    A rating is a whole number on its aspect's scale, a score need not be whole. Both may be text that holds the number.
    """

    text: str | None = Field(None, description="its text, or a chat whose last message of the assistant it is")
    member: str | None = Field(
        None, description="where its label stands, of who wrote it; in columns, the name there when absent"
    )
    model: str | None = Field(None, description="the model that wrote it; its label when absent")
    ratings: dict[Name, str] = Field({}, description="aspect -> where its rating stands")
    scores: dict[Name, str] = Field({}, description="aspect -> where its score stands")
    thumbs: dict[Name, str] = Field(
        {},
        description="aspect -> where a thumb stands: 1 or true is the highest of its scale; 0, -1 or false the lowest",
    )
    rationales: dict[Name, str] = Field({}, description="aspect -> where the reason for its rating or score stands")

    @model_validator(mode="after")
    def _readable(self) -> Self:
        every = [*self.ratings, *self.scores, *self.thumbs]
        both = sorted({aspect for aspect in every if every.count(aspect) > 1})
        if both:
            raise ValueError(f"completions: {both} stand in more than one of ratings, scores and thumbs")
        known("completions.rationales", self.rationales, self.rated)
        places = [self.text, self.member, self.model, *self.rated.values(), *self.rationales.values()]
        for mapped in places:
            if mapped and ("{{" in mapped or "{%" in mapped):
                compiles(mapped, "completions")
        return self

    @property
    def rated(self) -> dict[str, str]:
        """Aspect -> where to find its rating, score or thumb."""
        return self.ratings | self.scores | self.thumbs


class Given(Written):
    """Completions that a source brings, in one of four ways.

    `columns`: each completion has columns of its own. `items`: they are in a list within the row; all other places are
    then relative to an item of it. `of_layout`: those that the source's layout holds. None of these: each row is one
    completion, and the rows of a prompt may be anywhere in the sources. A rating may also be true or false: the highest
    or the lowest of its scale.
    """

    columns: dict[str, Written | str] = Field(
        {}, description="label -> where its completion stands; a column's name alone is that of its text"
    )
    items: str | None = Field(None, description="where the list of completions stands")
    of_layout: bool = Field(
        False,
        description="take the answers of the source's layout: the last answer of a chat, the output beside an "
        "instruction, chosen and rejected (which are then the labels)",
    )
    verdicts: dict[Name, str] = Field(
        {},
        description="aspect -> where it stands which of the two in columns is better: a label, a or b, model_a or "
        "model_b, tie; the better one is rated the highest of the scale, the other the lowest",
    )
    votes: dict[Name, str] = Field(
        {},
        description="the same, kept as a comparison of the two and not as ratings, also where the answers of a prompt "
        "meet in several rows: for a judge with backend given and protocol pairwise",
    )
    voter: str | None = Field(
        None, description="where it stands who votes: each one's vote counts; equal votes without a voter are one"
    )

    @model_validator(mode="after")
    def _one_layout(self) -> Self:
        alone = self.model_dump(exclude={"columns", "verdicts", "votes", "voter"}, exclude_defaults=True)
        if self.columns and alone:
            raise ValueError(f"completions.columns: {sorted(alone)} go into its entries")
        if self.of_layout and (self.items or self.text):
            raise ValueError("completions: of_layout says where the texts stand; leave out items and text")
        if any(written.text is None for written in self.by_label.values()) or not (
            self.columns or self.items or self.text or self.of_layout
        ):
            raise ValueError("completions: name the text of each, in columns, items or text, or set of_layout")
        if (self.verdicts or self.votes) and len(self.columns) != 2:
            field = "verdicts" if self.verdicts else "votes"
            raise ValueError(f"completions.{field}: they are of two completions; name both in columns")
        if self.voter and not self.votes:
            raise ValueError("completions.voter: it goes with votes")
        both = sorted(set(self.verdicts) & {aspect for one in self.by_label.values() for aspect in one.rated})
        if both:
            raise ValueError(f"completions: {both} stand in verdicts and in ratings or scores")
        if not all(label.strip() for label in self.columns):
            raise ValueError("completions.columns: a label must not be blank")
        return self

    @property
    def by_label(self) -> dict[str, Written]:
        """Label -> where to find its completion, in the layout with `columns`."""
        return {
            label: Written(text=where) if isinstance(where, str) else where for label, where in self.columns.items()
        }

    @property
    def rated_anywhere(self) -> set[str]:
        """The aspects for which the source brings ratings or scores, under the names that it gives them."""
        return {*self.verdicts, *(aspect for written in (self, *self.by_label.values()) for aspect in written.rated)}

    @property
    def has_any_labels(self) -> bool:
        """Whether labels are known only when rows are read."""
        return self.of_layout or any(written.member for written in (self, *self.by_label.values()))


class Sql(Config):
    """Rows that a database returns for a query. Nothing is written to the database."""

    url: str | None = Field(None, description="SQLAlchemy URL without a password, such as postgresql://me@host/base")
    url_env: str | None = Field(None, description="name of an environment variable that holds the URL, instead")
    query: str = Field(min_length=1, description="its columns are a row's; with ORDER BY, the order is always the same")

    @model_validator(mode="after")
    def _one_url(self) -> Sql:
        if bool(self.url) == bool(self.url_env):
            raise ValueError("sql: name either url or url_env")
        without_password("sql.url", self.url or "")
        return self


class Http(Config):
    """How a file is fetched over HTTP."""

    headers_env: dict[str, str] = Field(
        {}, description="header -> name of the environment variable that holds its value; not sent after a redirect"
    )
    timeout: float = Field(60, gt=0, description="seconds without a byte after which the fetch is tried again")
    max_bytes: int = Field(4 * 2**30, ge=1, description="refuse a file of more bytes")
    attempts: int = Field(4, ge=1, le=20, description="tries, with waits that grow")


class Source(Config):
    """One place that prompts are read from: a path or a database."""

    path: str = Field("", description="file, glob, folder, http(s) address of a file, or Hugging Face data set id")
    sql: Sql | None = Field(None, description="a query to a database, instead of a path")
    http: Http = Field(Http(), description="for a path that is an http(s) address")
    format: Literal["auto", "jsonl", "json", "csv", "tsv", "parquet", "dataset"] = Field(
        "auto",
        description="auto: what the file's name ends in; dataset: a Hugging Face data set, also one in a folder; csv "
        "takes what stands between its columns from the header: the first of comma, semicolon, tab and | that fits the "
        "first records",
    )
    config: str | None = Field(
        None, description="configuration of a Hugging Face data set; its default one when absent"
    )
    split: str = Field("train", description="split of a Hugging Face data set")
    revision: str | None = Field(
        None, description="commit or tag of a Hugging Face data set; its main branch when absent"
    )
    layout: LayoutName = Field(
        "auto",
        description="how its rows are laid out (docs/layouts.md); auto: each row by the first that is certain of it",
    )
    columns: Columns = Field(Columns(), description="where the parts of a prompt stand in a row")
    where: str | None = Field(
        None, description="a condition on a row, such as language == 'en' and stars > 3; rows that fail it are left out"
    )
    keep: tuple[str, ...] = Field(
        (),
        description="columns or dotted paths that go to the published rows and exports, such as id; reference is the "
        "prompt's reference",
    )
    completions: Given | None = Field(None, description="completions that its rows bring, and their ratings")
    sample: int | None = Field(None, ge=1, description="draw this many rows at random; all are read when absent")
    limit: int | None = Field(None, ge=1, description="read no more than this many rows; all when absent")
    seed: int = Field(0, description="seed of the draw")

    @model_validator(mode="after")
    def _one_place(self) -> Source:
        if bool(self.path) == (self.sql is not None):
            raise ValueError("a source has either a path or sql")
        if self.is_remote:
            _fetchable(self.path)
            if self.format == "dataset" or (self.format == "auto" and format_of(self.path) is None):
                raise ValueError("path: what format is it? Set the source's format to jsonl, json, csv or parquet")
        elif self.http != Http():
            raise ValueError("http: the path is no http(s) address")
        return self

    @model_validator(mode="after")
    def _readable(self) -> Source:
        name, bracket, part = self.split.partition("[")
        if bracket:
            first = re.fullmatch(r":(\d+)\]", part)
            instead = f"limit: {first[1]} reads its first {first[1]} rows" if first else "limit reads its first rows"
            raise ValueError(f"split: {self.split} is a part of a split; write split: {name}, where {instead}")
        if self.layout != "auto" and (self.columns.prompt or self.columns.messages):
            raise ValueError("a source has either a layout or columns.prompt or columns.messages")
        if self.completions and self.completions.of_layout and self.columns.prompt:
            raise ValueError("completions.of_layout: columns.prompt names no answers; say where they stand")
        taken = [column for column in self.keep if _PUBLISHED.fullmatch(column)]
        if taken:
            raise ValueError(f"keep: a published row has a column {taken[0]} of its own; it cannot be kept as that")
        if self.where is not None:
            compiles(condition(self.where), "where")
        return self

    @property
    def is_remote(self) -> bool:
        return self.path.startswith(("http://", "https://"))


class Decontamination(Config):
    """Benchmarks that no prompt may come from: a prompt that shares `n` words in a row with one of their items is
    rejected.

    Source: GPT-3's rule, Brown et al. 2020, https://arxiv.org/abs/2005.14165, appendix C.
    """

    against: tuple[Source, ...] = Field(min_length=1, description="the benchmarks, with columns as in prompts.sources")
    n: int = Field(13, ge=1, description="words in a row; a text with fewer counts by all its words")

    @model_validator(mode="after")
    def _prompts_only(self) -> Decontamination:
        if any(source.completions for source in self.against):
            raise ValueError("decontaminate.against: completions are not looked at; leave them out")
        return self


class Prompts(Config):
    """Which prompts are answered."""

    sources: tuple[Source, ...] = Field(min_length=1, description="where prompts are read from, one after the other")
    limit: int | None = Field(
        None, ge=1, description="read no more rows than this from all sources together; all when absent"
    )
    max_chars: int = Field(200_000, ge=1, description="reject prompts with more characters than this")
    near_duplicates: float | None = Field(
        None,
        gt=0,
        le=1,
        description="reject prompts as alike as this to an earlier one (Jaccard of word pairs); none when absent",
    )
    decontaminate: Decontamination | None = Field(
        None, description="reject prompts that come from benchmarks; none when absent"
    )

    @property
    def kept(self) -> list[str]:
        """The columns that the sources keep, in the order in which they name them."""
        return list(dict.fromkeys(name for source in self.sources for name in source.keep))


def condition(where: str) -> str:
    """The template that shows text for a row which meets a condition, and nothing for any other."""
    return f"{{% if {where} %}}yes{{% endif %}}"


def is_local(path: str) -> bool:
    """Whether `path` means a file or folder on disk rather than a data set's id."""
    return path.startswith((".", "/", "~")) or format_of(path) is not None or glob.has_magic(path)


def format_of(path: str) -> str | None:
    """The format that a file's name ends in, if it is known. Of compressed files, only JSON lines are known."""
    name = Path(urlsplit(path).path if "://" in path else path).name.lower()
    kind = _SUFFIXES.get(Path(name.removesuffix(".gz")).suffix)
    return kind if kind == "jsonl" or not name.endswith(".gz") else None


def _fetchable(address: str) -> None:
    """Raise ValueError if an address holds a secret or cannot be that of a file."""
    parts = urlsplit(address)
    if parts.username or parts.password or any(map(SECRET_HEADER.search, parse_qs(parts.query))):
        raise ValueError("path: a secret in it would be stored and shown; send it by http.headers_env")
    if not parts.hostname or parts.fragment:
        raise ValueError("path: not the http(s) address of a file")
