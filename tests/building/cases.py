"""What the tests of the library share: a recipe of the echo backend as a mapping, and prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PROMPTS = [f"Question {n}?" for n in range(6)]


def echo(name: str, **more: Any) -> dict[str, Any]:
    """A model of the echo backend."""
    return {"name": name, "backend": "echo", "model": f"echo-{name}", **more}


def sections(folder: Path, **more: Any) -> dict[str, Any]:
    """All sections that steps need, with the workspace in a folder."""
    return {
        "workspace": str(folder / "ws"),
        "pool": {"members": [echo("brief"), echo("long", system_prompt="Answer at length.")]},
        "evolution": {"evolver": {"backend": "echo", "model": "echo-evolver"}},
        "rating": {"aspects": ["helpfulness", "honesty"], "judges": [echo("judge")]},
    } | more


def answers(*texts: str, prompt: str = "Why?", **columns: list[Any]) -> list[dict[str, Any]]:
    """Rows of answers to one prompt."""
    rows = [{"prompt": prompt, "completion": text} for text in texts]
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return rows
