"""Commands about what data sets are worth: prove."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pairsmith_flows.cli.click_options import DatasetPlace, Number, WholeNumber
from pairsmith_flows.cli.exits import exit_codes
from pairsmith_flows.cli.running import open_console

if TYPE_CHECKING:
    from rich.console import Console

    from pairsmith.worth.arms import Arm
    from pairsmith.worth.proving import Plan

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
ARMS = "pairsmith-proofs"  # the folder of arms' results
SECONDS = 10  # between two lines about the same work


@click.command("prove")
@click.argument("datasets", metavar="A [B]", nargs=-1, required=True, type=DatasetPlace())
@click.option("--model", default=MODEL, show_default=True, help="The model to train: a hub id or a folder.")
@click.option("--eval", "eval_path", metavar="FILE", type=click.Path(exists=True), help="Prompts with checks.")
@click.option("--seeds", type=WholeNumber(min=1), default=1, show_default=True, help="Trainings of each arm.")
@click.option("--pairs", type=WholeNumber(min=8), default=200, show_default=True, help="To train on, of each set.")
@click.option("--prompts", type=WholeNumber(min=1), default=100, show_default=True, help="Of --eval, at most.")
@click.option("--tokens", type=WholeNumber(min=16), default=256, show_default=True, help="Of a side, at most.")
@click.option("--epochs", type=WholeNumber(min=1), default=1, show_default=True, help="Times each pair is seen.")
@click.option("--learning-rate", type=Number(min=0, min_open=True), default=2e-5, show_default=True)
@click.option("--arms", metavar="FOLDER", default=ARMS, show_default=True, help="Where results of arms are kept.")
@click.option(
    "--out", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write the report as JSON."
)
@click.option("--dry-run", is_flag=True, help="Only show which arms there are, and which are done.")
def prove_command(
    datasets: tuple[str, ...],
    model: str,
    eval_path: str | None,
    seeds: int,
    prompts: int,
    arms: str,
    out: Path | None,
    dry_run: bool,
    **settings: Any,
) -> None:
    """Train a small model by DPO on published datasets or versions A and B, and say what they are worth to it.

    Each is trained on as it is and, as a control, with sides shuffled; the models are compared by held-out pairs and by
    the checks of --eval. Finished arms are kept: run again to go on, or with more --seeds.
    """
    with exit_codes():
        from pairsmith.errors import ConfigError
        from pairsmith.worth.training import require_extra

        if len(datasets) > 2:
            raise ConfigError(f"{len(datasets)} datasets: prove compares two, or one with its shuffled sides")
        require_extra()
        from pairsmith.worth.arms import Settings
        from pairsmith.worth.proving import plan_of, report_of, results_of

        console = open_console()
        plan = plan_of(datasets, model, eval_path, Settings(**settings), seeds, prompts)
        show_plan(console, plan, arms)
        if dry_run:
            return
        shown = Shown(console, len(plan.arms))
        report = report_of(plan, results_of(plan, arms, shown.begin, shown.tell))
        show_proof(console, report)
        if out:
            import json

            out.write_text(json.dumps(report, ensure_ascii=False, indent=1), encoding="utf-8")


@dataclass
class Shown:
    """Prints how far the arms are: each arm as it begins, then its work every SECONDS with rate and time left."""

    console: Console
    arms: int
    arm: int = 0
    work: str = ""
    began: float = 0.0
    printed: float = 0.0
    took: list[float] = field(default_factory=list)
    arm_began: float | None = None
    first: int = 0

    def begin(self, arm: Arm, is_kept: bool) -> None:
        now = time.monotonic()
        if self.arm_began is not None:
            self.took.append(now - self.arm_began)
        is_trained = bool(arm.pairs) and not is_kept  # the untrained model takes less time than others will
        self.arm, self.work, self.arm_began = self.arm + 1, "", now if is_trained else None
        left = self.arms - self.arm + 1
        about = f", about {span(max(self.took) * left)} left" if self.took and not is_kept else ""
        self.console.print(f"arm {self.arm} of {self.arms}: {arm.name}{', done before' if is_kept else about}")

    def tell(self, work: str, done: int, total: int) -> None:
        now = time.monotonic()
        if work != self.work:
            self.work, self.began, self.printed, self.first = work, now, now, done
        elif now - self.printed >= SECONDS or done == total:
            rate = (done - self.first) / max(now - self.began, 1e-9)
            left = f", {span((total - done) / rate)} left" if rate and done < total else ""
            self.console.print(f"  {work}: {done:,} of {total:,}, {rate:.2g} a second{left}")
            self.printed = now


def span(seconds: float) -> str:
    """A time as a person says it.

    >>> span(45), span(125), span(4000)
    ('45 s', '2 min', '1 h 7 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def show_plan(console: Console, plan: Plan, folder: str) -> None:
    from pairsmith.storage.local_files import LocalFiles
    from pairsmith.worth.reference import kept_json
    from pairsmith_flows.cli.tables import Rows, say

    made_by = plan.lab.made_by
    say(console, f"{plan.lab.model} on {made_by['device']}, {len(plan.questions):,} check prompts")
    console.print(
        Rows(
            "Sets, with median lengths",
            [
                {"set": one.name, "pairs": len(one.pairs), "held_out": len(one.held), "too_long": one.longer}
                | one.lengths
                for one in plan.sets
            ],
        )
    )
    files = LocalFiles(folder)
    console.print(Rows("Arms", [_arm_row(arm, kept_json(files, name)) for name, arm in plan.files().items()]))
    for told in plan.told:
        say(console, told)


def _arm_row(arm: Arm, kept: Mapping[str, Any] | None) -> dict[str, Any]:
    row = {"arm": arm.name, "pairs": len(arm.pairs), "done": "yes" if kept else ""}
    return row | {"seconds": round(kept["seconds"]) if kept else None}


def show_proof(console: Console, report: Mapping[str, Any]) -> None:
    from pairsmith_flows.cli.tables import Rows, say

    console.print(Rows("Models", report["arms"]))
    console.print(Rows("Gains, with 95% intervals", report["comparisons"]))
    for sentence in (*report["told"], *report["conclusions"]):
        say(console, f"- {sentence}")


COMMANDS = (prove_command,)
