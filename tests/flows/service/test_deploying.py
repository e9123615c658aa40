"""The files in deployments/, each read by a real parser, and what they name compared with what is there."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate

from pairsmith.about import __version__
from pairsmith.config import Recipe
from pairsmith.config.plugins import lists_only
from pairsmith.errors import ConfigError
from pairsmith_flows.service import deploying, old_names, settings
from pairsmith_flows.service.deploy_steps import read_recipe
from tests.conftest import ROOT

FOLDER = ROOT / "deployments"
PREFECT = FOLDER / "prefect.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
IMAGE = f"pairsmith:{__version__}"
SECRET = re.compile(r"PASSWORD|AUTH_STRING|KEY|TOKEN|CONNECTION_URL")


def program(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name(name)), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("deployment", yaml.safe_load(PREFECT.read_text())["deployments"], ids=lambda one: one["name"])
def test_a_deployment_names_a_flow_by_its_module_and_gives_it_parameters_that_it_takes(
    deployment: dict[str, Any],
) -> None:
    from prefect.flows import load_flow_from_entrypoint
    from prefect.utilities.templating import apply_values

    (step,) = deploying.recipe_steps(yaml.safe_load(PREFECT.read_text()))
    assert "/" not in deployment["entrypoint"]
    flow = load_flow_from_entrypoint(deployment["entrypoint"])
    given = apply_values(deployment["parameters"], {"file": read_recipe(str(ROOT / step["path"]))})
    made = flow.validate_parameters(given)
    assert made["recipe"].name == "echo" if "recipe" in made else made["recipe_file"] == "echo.yaml"
    assert deployment["enforce_parameter_schema"] is True
    assert "pairsmith" in deployment["tags"]
    limits = deployment.get("concurrency_limit")
    assert (limits is not None) == bool(deployment.get("schedules"))


def test_a_recipe_with_templates_is_not_changed_on_its_way(tmp_path: Path) -> None:
    from prefect.utilities.templating import apply_values

    data = yaml.safe_load((ROOT / "recipes" / "echo.yaml").read_text())
    data["prompts"]["sources"] = [
        {
            "path": str(ROOT / "recipes" / "prompts" / "demo.jsonl"),
            "columns": {"prompt": "{{ prompt }} {{ file.recipe }}"},
        }
    ]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(data))
    given = apply_values({"recipe": "{{ file.recipe }}"}, {"file": read_recipe(str(tmp_path / "recipe.yaml"))})
    assert given["recipe"]["prompts"]["sources"][0]["columns"]["prompt"] == "{{ prompt }} {{ file.recipe }}"


def test_a_form_lists_the_strategies_unless_code_of_a_users_own_is_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def schema() -> Any:
        return Recipe.model_json_schema()["$defs"]["Pairing"]["properties"]["strategy"]

    with lists_only():
        assert set(schema()) >= {"enum", "type"}
    assert "enum" not in schema()

    (tmp_path / "own.py").write_text("def longest(candidates, pairing):\n    return []\n")
    data = yaml.safe_load((ROOT / "recipes" / "echo.yaml").read_text())
    data["prompts"]["sources"] = [{"path": str(ROOT / "recipes" / "prompts" / "demo.jsonl")}]
    for strategy, allowed, expected in (
        ("best-vs-worst", "", False),
        ("best-vs-worst", "own", True),
        ("own:longest", "", True),
    ):
        monkeypatch.setenv("PAIRSMITH_ALLOW_CODE", allowed)
        recipe = {**data, "pairing": {"strategy": strategy}}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        step = {deploying.STEP: {"id": "file", "path": str(tmp_path / "recipe.yaml")}}
        (tmp_path / "prefect.yaml").write_text(yaml.safe_dump({"build": [step]}))
        assert deploying.code_expected(tmp_path / "prefect.yaml") is expected, strategy


def test_prefect_reads_the_deployments_as_they_are_meant() -> None:
    from prefect.cli.deploy._models import PrefectYamlModel

    read = PrefectYamlModel.model_validate(yaml.safe_load(PREFECT.read_text()))
    assert [one.name for one in read.deployments] == ["ad-hoc", "short", "nightly", "weekly"]
    assert {one.concurrency_limit.limit for one in read.deployments if one.concurrency_limit} == {1}


def automations() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((FOLDER / "automations.yaml").read_text())["automations"]
    return found


@pytest.mark.parametrize("automation", automations(), ids=lambda one: one["name"])
def test_an_automation_is_one_and_starts_no_run(automation: dict[str, Any]) -> None:
    from prefect.events.schemas.automations import AutomationCore

    assert {action["type"] for action in automation["actions"]} <= {"send-notification", "change-flow-run-state"}
    for blocks in ({}, {"notify": "01a2181b-f7d4-7a38-8b1f-c3a17ac7b67c"}):
        actions = [deploying.with_block(action, blocks) for action in automation["actions"]]
        made = AutomationCore.model_validate(automation | {"actions": actions})
        assert made.actions[0].type == ("do-nothing" if automation["actions"][0].get("block") and not blocks else
                                        automation["actions"][0]["type"])  # fmt: skip


def test_signs_of_life_are_waited_for_long_enough_and_a_run_that_is_suspended_is_not_dead() -> None:
    (watch,) = [one["trigger"] for one in automations() if one["trigger"]["posture"] == "Proactive"]
    assert watch["within"] >= 3 * settings.HEARTBEAT_SECONDS
    assert watch["after"] == ["prefect.flow-run.heartbeat"]
    ends = {"Completed", "Failed", "Crashed", "Cancelled", "Suspended", "Paused", "heartbeat"}
    assert {f"prefect.flow-run.{name}" for name in ends} <= set(watch["expect"])


def test_the_compose_file_is_one_by_its_schema() -> None:
    told = program("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(FOLDER / "compose.yaml"))
    assert told.returncode == 0, told.stdout


def test_compose_is_reached_from_this_machine_alone_and_holds_no_secret() -> None:
    services = COMPOSE["services"]
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert ports == {"server": ["127.0.0.1:${PREFECT_PORT:-4200}:4200"]}
    for service in services.values():
        for name, value in service["environment"].items():
            assert not SECRET.search(name) or "${" in value, name
        assert service.get("healthcheck") or service["restart"] == "no"
    assert services["worker"]["environment"].keys() >= {"OPENAI_API_KEY", "HF_TOKEN"}
    assert not services["server"]["environment"].keys() & {"OPENAI_API_KEY", "HF_TOKEN"}
    mounted = {volume.split(":")[0] for one in services.values() for volume in one.get("volumes", ())}
    assert {name for name in mounted if not name.startswith(".")} == set(COMPOSE["volumes"])


def test_every_variable_of_compose_is_in_the_example_and_none_has_a_value_that_is_secret() -> None:
    lines = [line for line in (FOLDER / ".env.example").read_text().splitlines() if line and not line.startswith("#")]
    example = dict(line.split("=", 1) for line in lines)
    named = set(re.findall(r"\$\{(\w+)", (FOLDER / "compose.yaml").read_text()))
    assert named == set(example)
    assert {name for name, value in example.items() if value} == {"PREFECT_PORT"}


def test_servers_and_workers_have_the_same_settings_everywhere() -> None:
    maps = {one["metadata"]["name"]: one["data"] for one in manifests() if one["kind"] == "ConfigMap"}
    compose = {name: COMPOSE["services"][name]["environment"] for name in ("server", "worker")}
    pools = [variables["env"]["default"] for variables in map(pool_variables, ("process", "kubernetes"))]
    run = {name: value for name, value in settings.WORKER.items() if not name.startswith("PREFECT_WORKER_")}
    for told in (compose["server"], maps["server"]):
        assert settings.SERVER.items() <= told.items()
    for told in (compose["worker"], maps["worker"]):
        assert settings.WORKER.items() <= told.items()
    assert pools == [run, run]


def test_settings_are_ones_that_prefect_knows() -> None:
    import prefect.settings

    told = [
        settings.SERVER,
        settings.WORKER,
        settings.for_terminal(True),
        settings.for_service({}, Path("x"), 1, "a:b"),
    ]
    told += [service["environment"] for service in COMPOSE["services"].values()]
    told += [one["data"] for one in manifests() if one["kind"] == "ConfigMap"]
    for name in {name for names in told for name in names if name.startswith("PREFECT_")}:
        assert getattr(prefect.settings, name, None) is not None, name


def test_commands_of_compose_are_there() -> None:
    commands = [service["command"] for service in COMPOSE["services"].values() if "command" in service]
    modules = [command[2] for command in commands if command[0] == "python"]
    assert modules == [deploying.__name__]
    for command in commands:
        assert all((ROOT / word).exists() for word in command if word.startswith("deployments/"))


def test_the_dockerfile_passes_its_linter_runs_without_root_and_copies_what_is_there() -> None:
    from dockerfile_parse import DockerfileParser

    told = program("hadolint", str(FOLDER / "Dockerfile"))
    assert told.returncode == 0, told.stdout
    steps = [(one["instruction"], one["value"]) for one in DockerfileParser(str(FOLDER / "Dockerfile")).structure]
    assert [value for name, value in steps if name == "USER"] == ["10001"]
    assert any("--constraint constraints.txt" in value for name, value in steps if name == "RUN")
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for source in [word for name, value in steps if name == "COPY" for word in value.split()[:-1]]:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored
    assert "deployments/.env" in ignored


def test_every_file_names_the_image_of_this_version() -> None:
    texts = [path.read_text() for path in FOLDER.rglob("*") if path.is_file()]
    assert {image for text in texts for image in re.findall(r"\bpairsmith:\d[\w.]*", text)} == {IMAGE}


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()))


def test_kubernetes_manifests_pass_their_schemas() -> None:
    import kubernetes_validate

    for manifest in manifests():
        kubernetes_validate.validate(manifest, "1.33", strict=True)


def test_in_a_cluster_nothing_is_open_to_the_outside_or_has_root_and_what_is_named_is_there() -> None:
    found = manifests()
    names = {(one["kind"], one["metadata"]["name"]) for one in found}
    assert {one["kind"] for one in found} == {"ConfigMap", "Deployment", "PersistentVolumeClaim", "Service"}
    for one in found:
        assert one["kind"] != "Service" or one["spec"].get("type", "ClusterIP") == "ClusterIP"
        if one["kind"] != "Deployment":
            continue
        pod = one["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        (container,) = pod["containers"]
        assert {("ConfigMap", each["configMapRef"]["name"]) for each in container["envFrom"]} <= names
        claims = [volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "emptyDir" not in volume]
        assert {("PersistentVolumeClaim", claim) for claim in claims} <= names
        for variable in container["env"]:
            assert set(variable) == {"name", "valueFrom"}


def pool_variables(name: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((FOLDER / "pools" / f"{name}.json").read_text())["variables"]["properties"]
    return told


def test_the_pool_of_processes_is_prefects_own_but_for_what_is_told() -> None:
    from prefect.workers.process import ProcessWorker

    ours = json.loads((FOLDER / "pools" / "process.json").read_text())
    theirs = ProcessWorker.get_default_base_job_template()
    for name in ("working_dir", "env"):
        theirs["variables"]["properties"][name]["default"] = pool_variables("process")[name]["default"]
    assert ours == theirs


def test_the_job_of_the_pool_in_a_cluster_is_one_by_its_schema() -> None:
    import kubernetes_validate
    from prefect.utilities.templating import apply_values, find_placeholders

    template = json.loads((FOLDER / "pools" / "kubernetes.json").read_text())
    variables = template["variables"]["properties"]
    manifest = template["job_configuration"]["job_manifest"]
    assert {one.name for one in find_placeholders(manifest)} <= set(variables)
    values = {name: field["default"] for name, field in variables.items() if field.get("default") is not None}
    values |= {"env": [{"name": name, "value": value} for name, value in values["env"].items()], "name": "run"}
    made = apply_values(manifest, values, remove_notset=True)
    pod = made["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == IMAGE
    del pod["parallelism"], pod["completions"]  # Prefect's own template has them where they mean nothing
    kubernetes_validate.validate(made, "1.33", strict=True)


OLD = """
build:
  - flows.steps.read_recipe: {id: file, path: recipe.yaml}  # flows.refresh.refresh_preference_dataset
deployments:
  - {name: mine, entrypoint: flows.preferences.build_preference_dataset}
  - {name: theirs, entrypoint: flows.preferences.other}
  - {name: new, entrypoint: pairsmith_flows.preferences.rate_preference_dataset}
"""


def test_old_names_in_a_file_are_refused_with_the_new_ones(tmp_path: Path) -> None:
    file = tmp_path / "prefect.yaml"
    file.write_text(OLD)
    with pytest.raises(ConfigError) as told:
        old_names.check_names(file)
    assert str(told.value) == (
        f"{file}: has names of pairsmith 0.1; change them: flows.preferences.build_preference_dataset is now "
        "pairsmith_flows.preferences.build_preference_dataset, flows.steps.read_recipe is now "
        "pairsmith_flows.service.deploy_steps.read_recipe"
    )
    old_names.check_names(PREFECT)


def test_every_new_name_is_there() -> None:
    for name in old_names.RENAMED.values():
        module, _, function = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module), function))


class Client:
    """A server's client that knows three deployments, and what is changed of them."""

    def __init__(self, *deployments: dict[str, Any]) -> None:
        self.changed: dict[str, dict[str, Any]] = {}
        self._deployments = [SimpleNamespace(id=one["name"], **one) for one in deployments]

    def read_deployments(self) -> list[SimpleNamespace]:
        return self._deployments

    def update_deployment(self, name: str, changes: DeploymentUpdate) -> None:
        self.changed[name] = changes.model_dump(exclude_unset=True)


def test_deployments_that_an_earlier_version_made_get_the_new_names(capsys: pytest.CaptureFixture[str]) -> None:
    place = {"prefect.deployments.steps.set_working_directory": {"directory": "/srv"}}
    step = {"flows.steps.read_recipe": {"path": "recipe.yaml"}}
    client = Client(
        {"name": "old", "entrypoint": "flows.refresh.refresh_preference_dataset", "pull_steps": [place, step]},
        {"name": "new", "entrypoint": "pairsmith_flows.refresh.refresh_preference_dataset", "pull_steps": [place]},
        {"name": "theirs", "entrypoint": "flows.refresh.mine", "pull_steps": None},
    )
    deploying.renew_names(cast("SyncPrefectClient", client))
    assert client.changed == {
        "old": {
            "entrypoint": "pairsmith_flows.refresh.refresh_preference_dataset",
            "pull_steps": [place, {"pairsmith_flows.service.deploy_steps.read_recipe": {"path": "recipe.yaml"}}],
        }
    }
    assert "deployment old: its entrypoint is now pairsmith_flows." in capsys.readouterr().out
