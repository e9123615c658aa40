"""A data set's card: README.md as the Hub shows it, and the recipe in its public form."""

from __future__ import annotations

import re
from collections.abc import Sequence

import yaml

from pairsmith.about import __version__
from pairsmith.config import Recipe
from pairsmith.config.loading import length_gaps_in, models_in
from pairsmith.reporting.markdown import Table, markdown_table, markdown_text, public_name
from pairsmith.reporting.model_terms import with_terms
from pairsmith.reporting.page import WING, Models, render_markdown
from pairsmith.reporting.summary import Summary
from pairsmith.reporting.verdict import Finding, in_short
from pairsmith.text.templating import render

_CONFIGS = {"default": "data", "kto": "kto", "reward": "reward"}  # what `load_dataset` and the Hub's viewer offer
_EXPORTS = {
    "kto": '`load_dataset(..., "kto")` (prompt, completion, label)',
    "reward": '`load_dataset(..., "reward")` (chosen and rejected as whole chats, which begin with the prompt)',
    "jsonl": "`jsonl/` (one pair a line)",
    "csv": "`csv/` (for spreadsheets; what looks like a formula begins with an apostrophe)",
}


def render_card(
    recipe: Recipe,
    summary: Summary,
    where: str,
    files: dict[str, int],
    digest: str,
    models: Models,
    usage: Table | None = None,
    changed: str = "",
    findings: Sequence[Finding] = (),
) -> str:
    """README.md with the YAML front matter that the Hub and `load_dataset` read.

    `where`: what `load_dataset` opens, or a URL of which `pairsmith export` makes a folder; empty for a folder of this
    machine, whose path the card does not name. `usage`: from `usage_table`; `changed`: from `render_changelog`;
    `findings`: the verdict.
    """
    exports = [text for name, text in _EXPORTS.items() if name in recipe.publishing.exports]
    written = recipe_yaml(recipe).strip()
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", written)), default=0))
    return (
        render(
            WING,
            "card.md.jinja",
            description=markdown_text(recipe.description or "A preference dataset."),
            fence=fence,
            recipe=recipe,
            where=where,
            front_matter=_front_matter(recipe, summary.pairs, files, digest),
            summary_markdown=render_markdown(recipe, summary),
            exports=", ".join(exports),
            kept=", ".join(recipe.prompts.kept),
            version=__version__,
            models=markdown_table([row | {"model": public_name(row["model"])} for row in with_terms(recipe, models)]),
            usage=markdown_table(usage) if usage else "",
            changed=changed,
            verdict=[markdown_text(line) for line in in_short(findings)],
            scores=score_meaning(recipe),
            alike=similarity_meaning(recipe),
            signals=", ".join(markdown_text(signal.name) for signal in recipe.pairing.signals),
            recipe_yaml=written,
            brought=_judges(recipe, given=True),
            asked=_judges(recipe, given=False),
        )
        + "\n"
    )


def _front_matter(recipe: Recipe, pairs: int, files: dict[str, int], digest: str) -> str:
    """The YAML that the Hub and `load_dataset` read; `files`: how many each group has, such as `data/train`."""
    configs = []
    for name, folder in _CONFIGS.items():
        groups = sorted((group for group in files if group.startswith(f"{folder}/")), reverse=True)
        if groups:
            names = {group: f"{group}{'-*' if files[group] > 1 else ''}-{digest[:12]}.parquet" for group in groups}
            paths = [{"split": group.split("/")[1], "path": path} for group, path in names.items()]
            configs.append({"config_name": name, "data_files": paths})
    front = {
        "license": recipe.publishing.license,
        "language": list(recipe.publishing.language) or None,
        "task_categories": ["text-generation"],
        "tags": ["preference", "dpo", *_trained_on(files), "rlhf", "trl", "synthetic", "pairsmith"],
        "size_categories": [_size_category(pairs)],
        "configs": configs,
    }
    return yaml.safe_dump({k: v for k, v in front.items() if v}, sort_keys=False).strip()


def _trained_on(files: dict[str, int]) -> list[str]:
    """The kinds of training, beside DPO, for which there are files in their own form."""
    folders = {group.partition("/")[0] for group in files}
    return [tag for folder, tag in (("kto", "kto"), ("reward", "reward-model")) if folder in folders]


def _judges(recipe: Recipe, given: bool) -> str:
    """The names of the judges whose ratings came with the sources, or of those that were asked for theirs."""
    judges = recipe.rating.judges if recipe.rating else ()
    return ", ".join(markdown_text(judge.name) for judge in judges if judge.is_given == given)


def score_meaning(recipe: Recipe) -> str:
    """How a recipe makes one score of its judges' ratings, in words."""
    if not recipe.rating:
        return "null: no judge was asked for them"
    judges = {
        "mean": "mean over judges by their weights",
        "median": "median over judges",
        "trimmed": "mean over judges by their weights, of three or more without the lowest and the highest",
        "z-scored": "mean over judges by their weights of scores less the judge's mean for the prompt, in its standard "
        "deviations",
    }.get(recipe.rating.aggregation, f"{markdown_text(recipe.rating.aggregation)} of the judges' scores")
    unscaled = any(judge.is_unscaled for judge in recipe.rating.judges)
    scaled = ", in the reward model's own units" if unscaled else ", put on the scale 1 to 5"
    if recipe.rating.aggregation == "z-scored":
        scaled = ""
    strategies = {part.strategy for _, part in recipe.pairing.parts}
    by_aspect = f"in the aspect that `strategy` names: {judges}{scaled}"
    if strategies == {"per-aspect"}:
        return by_aspect
    which = {"prefer-overall": "the aspect overall", "prefer-aspects": "a weighted mean over aspects without overall"}
    aspects = which.get(recipe.pairing.conflicts, "a weighted mean over aspects")
    also = f"; where `strategy` begins with per-aspect, {by_aspect}" if "per-aspect" in strategies else ""
    return f"{aspects} (those not applicable left out); in each, the {judges}{scaled}{also}"


def similarity_meaning(recipe: Recipe) -> str:
    """How a recipe measures the similarity of two texts, in words."""
    encoder = recipe.pairing.similarity
    if encoder is None:
        return "the share of characters that stay when one is turned into the other (Indel)"
    return f"the cosine of their embeddings by {markdown_text(public_name(encoder.model))}"


def recipe_yaml(recipe: Recipe) -> str:
    """The recipe as it ran, without defaults and without this machine's folders, endpoints and devices."""
    data = recipe.model_dump(mode="json", exclude_defaults=True, exclude={"workspace", "ledger", "code_folder"})
    specs = models_in(data)
    for spec in specs:
        for machine in ("endpoint", "local"):
            spec.pop(machine, None)
    prompts = data["prompts"]
    sources = [*prompts["sources"], *(prompts.get("decontaminate") or {}).get("against", ())]
    for source in sources:
        source.get("sql", {}).pop("url", None)
    for place, key in [
        *((source, "path") for source in sources if "path" in source),
        *((spec, "model") for spec in specs if "model" in spec),
        *((gap, "tokenizer") for gap in length_gaps_in(data)),
    ]:
        place[key] = public_name(place[key])
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _size_category(n_rows: int) -> str:
    bounds = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]
    return next((name for bound, name in bounds if n_rows < bound), "n>1M")
