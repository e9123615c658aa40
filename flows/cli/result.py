"""What the command line prints after a run. Imported only when it is needed."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from pairsmith.config import Recipe
from pairsmith.reporting.failures import silent
from pairsmith.stages.base import open_store
from pairsmith.storage.tables import LOAD_REJECTIONS
from pairsmith_flows.cli.terminal import plain, table


def show_published(console: Console, recipe: Recipe, result: dict[str, Any]) -> None:
    """Print the funnel, the refused rows, the calls, and the version with its paths and state."""
    folder, is_latest = result["folder"], result["state"] == "released"
    dataset = folder.rpartition("/versions/")[0]
    console.print(table("Funnel", result["funnel"]))
    if result["passed_over"]:
        console.print(f"Completions and pairs passed over: {result['passed_over']}.", soft_wrap=True)
    _show_refused(console, recipe)
    _show_failures(console, result.get("failures", []))
    _show_usage(console, result["usage"])
    through = is_latest and "://" not in folder
    places = {"dataset": folder, "card": result["card"], "report": result["report"]}
    for what, place in places.items():
        path = place.replace(folder, f"{dataset}/latest", 1) if through else place
        console.print(f"{what:>8}: {path}", soft_wrap=True, markup=False)
    if result.get("hub"):
        console.print(f"     hub: {result['hub']}", soft_wrap=True, markup=False)
    news = "new" if result["new"] else "nothing new since"
    console.print(f" version: {result['version']} ({news}), {result['pairs']:,} pairs")
    if not is_latest:
        stays = f"latest stays {result['latest']}" if result["latest"] else "there is no latest yet"
        reason = {
            "candidate": f"it waits for approval, {stays}: `pairsmith release {dataset} --reason ...`, or reject",
            "rejected": f"the same content was rejected, {stays}",
            "withdrawn": f"latest was rolled back from the same content, {stays}",
        }[result["state"]]
        console.print(f"   state: {reason}", soft_wrap=True, markup=False)


def show_rated(console: Console, recipe: Recipe, result: dict[str, Any]) -> None:
    """Print the refused rows, the calls, and what could not be rated."""
    _show_refused(console, recipe)
    _show_usage(console, result["usage"])
    if result["lacking"]:
        console.print(f"Not rated: {result['lacking']}.", soft_wrap=True)
    else:
        console.print(f"Rated: {result['prompts']:,} prompts. `pairsmith pair` selects pairs.", soft_wrap=True)


def _show_usage(console: Console, usage: list[dict[str, Any]]) -> None:
    asked = {name: sum(row[name] for row in usage) for name in ("calls", "tokens", "cost", "failed", "refused")}
    if asked["calls"]:
        idle = {name for name in ("cost", "refused") if not asked[name]}
        columns = [{k: v for k, v in row.items() if k not in idle} for row in usage if row["calls"]]
        console.print(table("Asked in this run", columns))
    cost = f", cost {asked['cost']:,.4f}" if asked["cost"] else ""
    console.print(f"Asked the models {asked['calls']:,} times for {asked['tokens']:,} tokens{cost}; ", end="")
    console.print(again_text(asked["failed"], asked["refused"]))


def again_text(failed: int, refused: int) -> str:
    """What a rerun does about requests that failed, of which some were refused."""
    if not failed:
        return "a rerun asks nothing again."
    if not refused:
        return f"{failed} failed: run again."
    those = "all were refused" if refused == failed else f"{refused} of them were refused"
    others = "" if refused == failed else " Run again for the others."
    return f"{failed} failed; {those}, which running again will not mend: change what the endpoint refuses.{others}"


def _show_failures(console: Console, failures: list[dict[str, Any]]) -> None:
    """Print why members and judges failed, and whether running again may help; loudest who gave nothing at all."""
    if failures:
        console.print(table("Failures", failures))
    for who in silent(failures):
        console.print(plain(f"{who} gave nothing that can be used."), soft_wrap=True)


def _show_refused(console: Console, recipe: Recipe) -> None:
    """Print the first rows refused at load, and the file that lists all of them."""
    store = open_store(recipe)
    details = store.read(LOAD_REJECTIONS)["detail"].to_list()
    if details:
        console.print(
            f"Refused at load: {len(details):,} rows, all in {store.url(LOAD_REJECTIONS.path)}", soft_wrap=True
        )
    for detail in details[:5]:
        console.print(plain(f"  {detail}"), soft_wrap=True)
