"""Holds docker-compose.yaml, the image, .env.example and docs/deploying.md to one another, without a Docker engine."""

from __future__ import annotations

import ast
import fnmatch
import importlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
# A $$ is compose's escape for a plain dollar, so it starts no variable.
VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?:(?P<operator>:?[-?+])(?P<rest>[^}]*))?\}")
SECRET_NAME = re.compile(r"PASSWORD$|SECRET|_KEY$|AUTH$|_CONN|_CONN_|BROKER_URL|RESULT_BACKEND")
URI_PASSWORD = re.compile(r"://[^:@/\s]*:(\$\{[^}]*\}|[^@\s]*)@")
AUTH_MANAGERS = re.compile(r"`(airflow\.\S*auth_manager\S*)`")
AIRFLOW_SERVICES = {
    "api-server",
    "scheduler",
    "dag-processor",
    "triggerer",
    "worker",
    "airflow-migrate",
    "ledger-migrate",
}
ONE_SHOT = {"databases", "airflow-migrate", "ledger-migrate"}
IMAGE_PROGRAMS = {"psql", "pg_isready", "redis-server", "redis-cli"}

PARSE_COMMANDS = """
import contextlib, importlib, io, json, sys
from airflow.cli.cli_parser import get_parser
from celery.bin.celery import celery
faults = {}
for argv in json.load(sys.stdin):
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            if argv[0] == "airflow":
                get_parser().parse_args(argv[1:])
            else:
                assert argv[:2] == ["celery", "--app"] and argv[3] == "inspect", argv
                module, _, attribute = argv[2].rpartition(".")
                getattr(importlib.import_module(module), attribute)
                celery.commands["inspect"].make_context("inspect", argv[4:])
    except BaseException as refused:
        if not (isinstance(refused, SystemExit) and refused.code in (0, None)):
            faults[" ".join(argv)] = f"{refused!r} {said.getvalue()[-300:]}"
json.dump(faults, open(sys.argv[1], "w"))
"""


@cache
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yaml").read_text())


def services() -> dict[str, dict[str, Any]]:
    return compose()["services"]


def strings(node: object) -> Iterator[str]:
    """Yield every string below a YAML node, keys left out."""
    if isinstance(node, dict):
        for value in node.values():
            yield from strings(value)
    elif isinstance(node, list):
        for value in node:
            yield from strings(value)
    elif isinstance(node, str):
        yield node


def variables() -> list[re.Match[str]]:
    return [match for text in strings(compose()) for match in VARIABLE.finditer(text)]


def example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def secret_faults(environment: dict[str, str]) -> list[str]:
    """Return the names of an environment's secrets that are anything but a required variable with its explanation."""
    faults = []
    for name, value in environment.items():
        password = URI_PASSWORD.search(value)
        if not password and not SECRET_NAME.search(name):
            continue
        match = VARIABLE.fullmatch(password.group(1) if password else value)
        if not match or match["operator"] != ":?" or len(match["rest"].split()) < 4:
            faults.append(name)
    return faults


def airflow_faults(commands: list[list[str]], folder: Path) -> dict[str, str]:
    """Return the airflow and celery commands that the installed programs refuse, each with what it said."""
    answer = folder / "faults.json"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CELERY__BROKER_URL": "memory://",
        "AIRFLOW__CELERY__RESULT_BACKEND": "cache+memory://",
    }
    subprocess.run(
        [sys.executable, "-c", PARSE_COMMANDS, str(answer)],
        input=json.dumps(commands),
        env=environment,
        text=True,
        check=True,
        capture_output=True,
        timeout=120,
    )
    return json.loads(answer.read_text())


def service_commands() -> Iterator[tuple[str, list[str]]]:
    """Yield the argument lists that the services run, health checks and shell pipelines included."""
    for name, service in services().items():
        if "command" in service:
            yield name, service["command"]
        kind, *rest = service.get("healthcheck", {}).get("test", ["NONE"])
        if kind == "CMD":
            yield name, rest
        elif kind == "CMD-SHELL":
            yield name, shlex.split(rest[0].replace("$$", "$").split("|")[0])


def documented_lines() -> list[str]:
    """Return the shell lines of docs/deploying.md, from its blocks and from its inline commands."""
    text = (ROOT / "docs/deploying.md").read_text()
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    return lines + re.findall(r"`(docker compose [^`]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def test_every_required_variable_is_in_the_example_and_the_example_has_no_other() -> None:
    required = {match["name"] for match in variables() if match["operator"] == ":?"}
    assert required == set(example())
    assert set(example().values()) == {""}, "the example must hold no value that somebody could leave in place"


def test_every_other_variable_has_a_default_that_the_example_shows() -> None:
    text = (ROOT / ".env.example").read_text()
    optional = {(match["name"], match["operator"], match["rest"]) for match in variables() if match["operator"] != ":?"}
    for name, operator, default in optional:
        assert operator == ":-", name
        assert f"# {name}={default}\n" in text


@pytest.mark.parametrize("name", sorted(services()))
def test_no_secret_has_a_default(name: str) -> None:
    assert secret_faults(services()[name].get("environment", {})) == []


def test_extensions_and_configs_hold_no_secret() -> None:
    for key, node in compose().items():
        if key.endswith("-environment"):
            assert secret_faults(node) == []
    redis = re.findall(r"requirepass (.*)", compose()["configs"]["redis"]["content"])
    assert secret_faults({"REDIS_PASSWORD": redis[0]}) == [] and len(redis) == 1


@pytest.mark.parametrize(
    ("environment", "faults"),
    [
        ({"A_PASSWORD": "${X:?set it to a password}"}, []),
        ({"A_PASSWORD": "hunter2"}, ["A_PASSWORD"]),
        ({"A_PASSWORD": "${X:-hunter2}"}, ["A_PASSWORD"]),
        ({"A_PASSWORD": "${X}"}, ["A_PASSWORD"]),
        ({"A_PASSWORD": "${X:?}"}, ["A_PASSWORD"]),
        ({"FERNET_KEY": ""}, ["FERNET_KEY"]),
        ({"AIRFLOW_CONN_X": "postgres://u:p@h/d"}, ["AIRFLOW_CONN_X"]),
        ({"ANY": "redis://:p@h/0"}, ["ANY"]),
        ({"ANY": "redis://:${X:?set it to a password}@h/0"}, []),
        ({"ANY": "http://api-server:8080/execution/"}, []),
    ],
)
def test_the_search_for_default_secrets_finds_them(environment: dict[str, str], faults: list[str]) -> None:
    assert secret_faults(environment) == faults


def test_only_the_migration_service_sees_the_migrate_connection() -> None:
    def holders(word: str) -> set[str]:
        return {name for name, service in services().items() if word in yaml.safe_dump(service)}

    assert holders("AIRFLOW_CONN_LEDGER_DB_MIGRATE") == {"ledger-migrate"}
    assert holders("LEDGER_MIGRATE_PASSWORD") == {"ledger-migrate", "databases"}
    assert holders("env_file") == set(), "an env_file would hand every secret to its service"


@pytest.mark.parametrize(
    ("service", "connections"),
    [
        ("worker", {"BOOKING_DB", "LEDGER_DB", "TWILIO_DEFAULT", "SMTP_DEFAULT"}),
        ("api-server", {"LEDGER_DB_OPERATOR", "LEDGER_DB_ANALYST"}),
        (
            "ledger-migrate",
            {"LEDGER_DB_MIGRATE", "LEDGER_DB", "LEDGER_DB_OPERATOR", "LEDGER_DB_WEBHOOK", "LEDGER_DB_ANALYST"},
        ),
        ("scheduler", set()),
        ("dag-processor", set()),
        ("triggerer", set()),
        ("airflow-migrate", set()),
    ],
)
def test_each_service_holds_its_connections_and_no_other(service: str, connections: set[str]) -> None:
    prefix = "AIRFLOW_CONN_"
    names = services()[service]["environment"]
    assert {name.removeprefix(prefix) for name in names if name.startswith(prefix)} == connections


def test_the_worker_holds_nothing_of_the_control_plane() -> None:
    names = set(services()["worker"]["environment"])
    assert not names & set(compose()["x-control-environment"])
    assert "AIRFLOW_VAR_REMINDERS_ADDRESS_SECRET" in names
    assert "postgres://reminders_app:" in services()["worker"]["environment"]["AIRFLOW_CONN_LEDGER_DB"]
    assert "AIRFLOW_CONN_LEDGER_DB_WEBHOOK" in compose()["x-webhooks-environment"]


def test_every_airflow_and_celery_command_is_one_that_the_program_takes(tmp_path: Path) -> None:
    commands = [command for _, command in service_commands() if command[0] in ("airflow", "celery")]
    for line in documented_lines():
        found = re.search(r"\bexec [\w-]+ (airflow .*)", line)
        # Only FAB brings this command; the lock that the tests run on does not contain it.
        if found and "airflow users" not in line:
            commands.append(shlex.split(found[1]))
    assert len(commands) >= 12
    assert airflow_faults(commands, tmp_path) == {}


def test_a_wrong_command_is_found(tmp_path: Path) -> None:
    wrong = [["airflow", "webserver"], ["celery", "--app", "airflow.absent.app", "inspect", "ping"]]
    assert set(airflow_faults(wrong, tmp_path)) == {" ".join(command) for command in wrong}


@pytest.mark.parametrize(("service", "command"), list(service_commands()))
def test_every_other_command_exists(service: str, command: list[str]) -> None:
    match command:
        case ["airflow" | "celery", *_]:
            assert service in AIRFLOW_SERVICES
        case ["python", "-m", module, *_]:
            # In the image PYTHONPATH leads to the package; here it is the checkout's.
            path = {**os.environ, "PYTHONPATH": str(ROOT / "plugins")}
            helped = [sys.executable, *command[1:], "--help"]
            subprocess.run(helped, env=path, cwd="/", check=True, capture_output=True, timeout=60)
            assert services()[service]["environment"]["PYTHONPATH"] == "/opt/airflow/plugins", module
        case ["python", "-c", code]:
            ast.parse(code)
        case [program, *_]:
            assert program in IMAGE_PROGRAMS
            assert service not in AIRFLOW_SERVICES


@pytest.mark.parametrize(("status", "exit_status"), [("healthy", 0), ("unhealthy", 1)])
def test_the_api_server_is_judged_by_the_body(status: str, exit_status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps({"metadatabase": {"status": status}}).encode()
    monkeypatch.setattr("urllib.request.urlopen", lambda *_args, **_options: io.BytesIO(body))
    with pytest.raises(SystemExit) as ended:
        exec(services()["api-server"]["healthcheck"]["test"][-1], {})
    assert int(ended.value.code or 0) == exit_status


@pytest.mark.parametrize("name", sorted(services()))
def test_a_service_waits_for_what_can_be_waited_for(name: str) -> None:
    service = services()[name]
    for other, wish in service.get("depends_on", {}).items():
        if wish["condition"] == "service_healthy":
            assert "healthcheck" in services()[other]
        else:
            assert wish["condition"] == "service_completed_successfully" and other in ONE_SHOT
    assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped")
    assert ("healthcheck" in service) == (name not in ONE_SHOT)


def test_the_migrations_come_before_whatever_uses_them() -> None:
    def before(name: str) -> set[str]:
        direct = set(services()[name].get("depends_on", {}))
        return direct.union(*(before(other) for other in direct))

    assert {"airflow-migrate", "ledger-migrate"} <= before("worker") & before("scheduler")
    assert "databases" in before("ledger-migrate") & before("airflow-migrate")


def test_networks_volumes_and_configs_are_declared_and_used() -> None:
    used: dict[str, set[str]] = {"networks": set(), "volumes": set(), "configs": set()}
    for service in services().values():
        assert service["networks"], "without one, a service would join the default network"
        used["networks"].update(service["networks"])
        used["volumes"].update(volume.split(":")[0] for volume in service.get("volumes", []))
        used["configs"].update(config["source"] for config in service.get("configs", []))
    assert used == {kind: set(compose()[kind]) for kind in used}


def test_only_the_api_server_is_published_and_on_loopback() -> None:
    published = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert published == {"api-server": ["${API_SERVER_BIND:-127.0.0.1}:${API_SERVER_PORT:-8080}:8080"]}
    reach_outside = {name for name, service in services().items() if "outside" in service["networks"]}
    assert reach_outside == {"worker", "api-server"}
    assert {name for name, network in compose()["networks"].items() if not network.get("internal")} == {"outside"}


def test_postgres_keeps_its_data_where_version_18_has_it() -> None:
    assert services()["postgres"]["image"] == "postgres:18"
    assert services()["postgres"]["volumes"] == ["postgres-data:/var/lib/postgresql"]


def test_the_sql_reads_its_passwords_from_its_own_environment() -> None:
    content = compose()["configs"]["databases"]["content"]
    read = re.findall(r"^\\getenv \w+ (\w+)$", content, re.MULTILINE)
    assert read and set(read) == {name for name in services()["databases"]["environment"] if not name.startswith("PG")}
    assert not VARIABLE.search(content), "compose would write the value into the config"


def test_the_image_copies_what_exists_and_runs_as_nobody_in_particular() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    arguments = dict(line.removeprefix("ARG ").split("=", 1) for line in lines if line.startswith("ARG "))
    copied = [
        VARIABLE.sub(lambda m: arguments[m["name"]], line.split()[1]) for line in lines if line.startswith("COPY ")
    ]
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for path in copied:
        assert (ROOT / path).exists(), path
        assert any(fnmatch.fnmatch(path, pattern) for pattern in kept), f"{path} never reaches the builder"
    assert {"requirements.txt", "dags", "plugins", "include"} == set(copied)
    assert not any(fnmatch.fnmatch(".env", pattern) for pattern in kept)
    assert lines[0] == "FROM python:3.11-slim-bookworm"
    assert "RUN pip install --require-hashes -r requirements.txt" in lines
    assert [line for line in lines if line.startswith("USER ")] == ["USER airflow"]
    assert lines.index("USER airflow") > max(i for i, line in enumerate(lines) if line.startswith(("RUN", "COPY")))


def test_the_connections_of_the_example_are_ones_that_airflow_reads() -> None:
    shown = re.findall(r"^# (AIRFLOW_CONN_\w+)='(.*)'$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert {name for name, _ in shown} == {name for name in example() if name.startswith("AIRFLOW_CONN_")}
    for name, value in shown:
        if value.startswith("{"):
            fields = json.loads(value)
            assert set(fields) <= {"conn_type", "host", "port", "login", "password", "schema", "extra"}, name
        else:
            assert value.startswith("postgres://")


def test_the_documented_random_values_are_all_those_that_nobody_has_to_choose(tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("no openssl here: the command that makes the secrets was not run")
    block = re.search(r"```sh\n(umask.*?)```", (ROOT / "docs/deploying.md").read_text(), re.DOTALL)
    assert block
    subprocess.run(["sh", "-e", "-c", block[1]], cwd=tmp_path, check=True, timeout=60)
    made = dict(line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines())
    chosen = {"AIRFLOW_AUTH_MANAGER", *(name for name in example() if name.startswith("AIRFLOW_CONN_"))}
    assert set(made) | chosen == set(example())
    assert len(set(made.values())) == len(made) and len(made["AIRFLOW_JWT_SECRET"]) >= 64
    assert all(re.fullmatch("[0-9a-f]{64,}", value) for name, value in made.items() if name != "AIRFLOW_FERNET_KEY")
    fernet = importlib.import_module("cryptography.fernet")
    fernet.Fernet(made["AIRFLOW_FERNET_KEY"])
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0


def test_the_documented_commands_name_services_and_classes_that_exist() -> None:
    named = set()
    for line in documented_lines():
        if match := re.match(r"docker compose (?:exec (?:-T )?([\w-]+)|(?:build|stop|logs) ([\w -]+))", line):
            named.update((match[1] or match[2]).split())
    assert named and named <= set(services())
    managers = AUTH_MANAGERS.findall((ROOT / "docs/deploying.md").read_text())
    simple = managers[0].rpartition(".")
    assert hasattr(importlib.import_module(simple[0]), simple[2]) and len(managers) == 3
    lock = (ROOT / "requirements.txt").read_text()
    assert "providers-fab" not in lock and "providers-keycloak" not in lock, (
        "docs/deploying.md says that neither is there"
    )


def test_compose_itself_accepts_the_file() -> None:
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True, timeout=30).returncode:
        pytest.skip("no docker with the compose plugin here: the file was not shown to compose itself")
    filled = {name: "x" for name in example()}
    command = [docker, "compose", "--file", str(ROOT / "docker-compose.yaml"), "config", "-q"]
    subprocess.run(command, env={**os.environ, **filled}, check=True, timeout=60)
