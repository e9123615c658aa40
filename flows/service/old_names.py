"""Names of version 0.1's flows, which users' prefect.yaml files and deployments may still contain."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pairsmith.errors import ConfigError

RENAMED = {
    "flows.preferences.build_preference_dataset": "pairsmith_flows.preferences.build_preference_dataset",
    "flows.preferences.rate_preference_dataset": "pairsmith_flows.preferences.rate_preference_dataset",
    "flows.preferences.pair_preference_dataset": "pairsmith_flows.preferences.pair_preference_dataset",
    "flows.refresh.refresh_preference_dataset": "pairsmith_flows.refresh.refresh_preference_dataset",
    "flows.steps.read_recipe": "pairsmith_flows.service.deploy_steps.read_recipe",
}
WORD = re.compile(r"[\w.]+")


def check_names(prefect_file: Path) -> None:
    """Raise ConfigError that gives the new names for old ones in a prefect.yaml; comments are ignored."""
    lines = [line.partition("#")[0] for line in prefect_file.read_text(encoding="utf-8").splitlines()]
    old = sorted(RENAMED.keys() & set(WORD.findall("\n".join(lines))))
    if old:
        new = ", ".join(f"{name} is now {RENAMED[name]}" for name in old)
        raise ConfigError(f"{prefect_file}: has names of pairsmith 0.1; change them: {new}")


def renewed(value: Any) -> Any:
    """A value of a deployment, such as its steps, with today's names."""
    if isinstance(value, dict):
        return {renewed(name): renewed(part) for name, part in value.items()}
    if isinstance(value, list):
        return [renewed(part) for part in value]
    return RENAMED.get(value, value) if isinstance(value, str) else value
