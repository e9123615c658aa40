"""What the command line prints after a run. Imported only when it is needed."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from pairsmith.config import CHECKS, Recipe
from pairsmith.reporting.failures import as_text, silent
from pairsmith.stages.base import open_store
from pairsmith.storage.datafiles import MARGIN, clearest_pair, published_files
from pairsmith.storage.previews import version_or_preview
from pairsmith.storage.tables import LOAD_REJECTIONS
from pairsmith_flows.cli.tables import Rows, number, plain, say
from pairsmith_flows.cli.terminal import GLANCE, show_pairs


def show_published(console: Console, recipe: Recipe, result: dict[str, Any]) -> None:
    """Print the funnel, refused rows, who failed, the calls, the verdict, the clearest pair, and the version with its
    paths and state."""
    console.print(Rows("Funnel", result["funnel"]))
    if result["passed_over"]:
        say(console, f"Answers and pairs passed over: {result['passed_over']}.")
    _show_refused(console, recipe)
    show_failures(console, result.get("failures", []))
    show_usage(console, result["usage"])
    show_verdict(console, recipe, result["version"])
    show_clearest(console, result["folder"])
    show_version(console, result)


def show_version(console: Console, result: dict[str, Any]) -> None:
    """Print where a version or preview is, what it is, and last, where it is not released, why not."""
    folder, is_latest = result["folder"], result["state"] == "released"
    dataset = folder.rpartition("/versions/")[0]
    through = is_latest and "://" not in folder
    places = {"dataset": folder, "card": result["card"], "report": result["report"]}
    for what, place in places.items():
        path = place.replace(folder, f"{dataset}/latest", 1) if through else place
        _show_place(console, what, path)
    if result["state"] == "preview":
        say(console, f" preview: {result['pairs']:,} pairs, no version; {_stays(result)}. Without --limit: a version.")
        return
    if result.get("hub"):
        _show_place(console, "hub", result["hub"])
    news = "new" if result["new"] else "nothing new since"
    console.print(f" version: {result['version']} ({news}), {result['pairs']:,} pairs")
    if result["state"] == "candidate":
        _show_place(console, "release", f"`pairsmith release {dataset} --reason ...`, or reject")
    if not is_latest:
        why = f": {'; '.join(result['reasons'])}" if result["reasons"] else " for approval"
        state = {
            "candidate": f"it waits{why}",
            "rejected": "the same content was rejected",
            "withdrawn": "latest was rolled back from the same content",
        }[result["state"]]
        say(console, f"   state: {state}; {_stays(result)}")


def _show_place(console: Console, what: str, place: str) -> None:
    """Print what is to be copied: in one piece, however long."""
    console.print(plain(f"{what:>8}: {place}"), soft_wrap=True)


def _stays(result: dict[str, Any]) -> str:
    return f"latest stays {result['latest']}" if result["latest"] else "there is no latest yet"


def show_verdict(console: Console, recipe: Recipe, name: str) -> None:
    """Print what the report says first: a line for each finding."""
    version = version_or_preview(open_store(recipe), name)
    for line in version.about.get("verdict", []) if version else []:
        say(console, line)


def show_clearest(console: Console, folder: str) -> None:
    """Print the pair with the largest margin, and at which checks its rejected answer does worse."""
    pair = clearest_pair(published_files(folder))
    if pair is None:
        return
    margin = f", by a margin of {number(pair[MARGIN])}" if pair[MARGIN] is not None else ""
    say(console, f"The clearest pair{margin}:", style="bold")
    show_pairs(console, [pair], GLANCE)
    for one in failed_checks(pair):
        say(console, f"The rejected answer fails the check {one}.")


def failed_checks(pair: dict[str, Any]) -> list[str]:
    """The checks at which the rejected answer of a pair does worse than the chosen one, each with what it found."""
    chosen, rejected = (
        {one["aspect"]: one for one in pair[f"{side}_ratings"] if one["judge"] == CHECKS and one["score"] is not None}
        for side in ("chosen", "rejected")
    )
    return [
        f"{name}: {one['rationale']}"
        for name, one in sorted(rejected.items())
        if name in chosen and one["score"] < chosen[name]["score"]
    ]


def show_rated(console: Console, recipe: Recipe, result: dict[str, Any]) -> None:
    """Print the refused rows, the calls, and what could not be rated."""
    _show_refused(console, recipe)
    show_usage(console, result["usage"])
    if result["lacking"]:
        say(console, f"Not rated: {result['lacking']}.")
    else:
        say(console, f"Rated: {result['prompts']:,} prompts. `pairsmith pair` selects pairs.")


def show_usage(console: Console, usage: list[dict[str, Any]]) -> None:
    asked = {
        name: sum(row[name] for row in usage) for name in ("calls", "tokens", "cost", "retries", "failed", "refused")
    }
    if asked["calls"]:
        idle = {name for name in ("cost", "retries", "refused") if not asked[name]}
        columns = [{k: v for k, v in row.items() if k not in idle} for row in usage if row["calls"]]
        console.print(Rows("Asked in this run", columns))
    cost = f", cost {number(asked['cost'])}" if asked["cost"] else ""
    again = f", with {asked['retries']:,} retries" if asked["retries"] else ""
    told = f"Asked the models {asked['calls']:,} times for {asked['tokens']:,} tokens{cost}{again}"
    say(console, f"{told}; {again_text(asked['failed'], asked['refused'])}")


def again_text(failed: int, refused: int) -> str:
    """What a rerun does about requests that failed, of which some were refused."""
    if not failed:
        return "a rerun asks nothing again."
    if not refused:
        return f"{failed} failed: run again."
    those = (
        "all were refused" if refused == failed else f"{refused} of them {'was' if refused == 1 else 'were'} refused"
    )
    others = "" if refused == failed else " Run again for the others."
    return f"{failed} failed; {those}, which running again will not mend: change what the endpoint refuses.{others}"


def show_failures(console: Console, failures: list[dict[str, Any]]) -> None:
    """Print why members and judges failed, and whether running again may help; loudest who gave nothing at all."""
    for row in failures:
        say(console, f"{as_text(row)}.")
    for who in silent(failures):
        say(console, f"{who} gave nothing that can be used.")


def _show_refused(console: Console, recipe: Recipe) -> None:
    """Print the first rows refused at load, and the file that lists all of them."""
    store = open_store(recipe)
    details = store.read(LOAD_REJECTIONS)["detail"].to_list()
    if details:
        say(console, f"Refused at load: {len(details):,} rows, all in {store.url(LOAD_REJECTIONS.path)}")
    for detail in details[:5]:
        say(console, f"  {detail}")
