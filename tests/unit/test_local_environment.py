"""The environment of a run: what is made, what wins, who sees what, and how a shell reads it."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from local.environment import (
    NOT_FOR_TASKS,
    Ports,
    Secrets,
    for_components,
    kept_secrets,
    programs,
    shell_lines,
    whole_environment,
    write_private,
)
from local.postgres import packaged_programs

PORTS = Ports(postgres=15432, airflow=8080, worker_logs=8793, triggerer_logs=8794, simulator=8025, smtp=2525)
MINE = "postgres://me:mine@db.example.org:5432/book"


@pytest.fixture
def kept(tmp_path: Path) -> Secrets:
    return kept_secrets(tmp_path / "secrets.json")


def test_secrets_are_made_once_and_are_nobody_elses_to_read(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    first = kept_secrets(path)
    assert kept_secrets(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(first.jwt_secret) >= 64
    assert first.address_secret not in repr(first)


def test_a_secret_that_is_missing_is_made_beside_those_that_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    first = kept_secrets(path)
    known = json.loads(path.read_text())
    del known["api_secret"], known["passwords"]["airflow"]
    path.write_text(json.dumps(known))
    again = kept_secrets(path)
    assert again.address_secret == first.address_secret
    assert again.passwords["reminders_app"] == first.passwords["reminders_app"]
    assert again.api_secret and again.passwords["airflow"] != first.passwords["airflow"]


def test_a_private_file_stays_private_when_it_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o600)


@pytest.mark.parametrize(
    ("own", "ours_are_gone"),
    [
        ({}, []),
        ({"AIRFLOW_CONN_BOOKING_DB": MINE}, []),
        ({"AIRFLOW_CONN_BOOKING_DB": ""}, []),
        ({"AIRFLOW_CONN_TWILIO_DEFAULT": "{}"}, []),
        (
            {"AIRFLOW_CONN_TWILIO_DEFAULT": "{}", "AIRFLOW_CONN_SMTP_DEFAULT": "{}"},
            ["RINGONCE_SIMULATOR_URL", "RINGONCE_SIMULATOR_SMTP_PORT"],
        ),
        (
            {"AIRFLOW_CONN_LEDGER_DB": MINE},
            [
                "AIRFLOW_CONN_LEDGER_DB_MIGRATE",
                "AIRFLOW_CONN_LEDGER_DB_OPERATOR",
                "AIRFLOW_CONN_LEDGER_DB_WEBHOOK",
                "AIRFLOW_CONN_LEDGER_DB_ANALYST",
            ],
        ),
    ],
    ids=["nothing", "booking", "empty", "twilio", "both providers", "ledger"],
)
def test_connections_of_the_caller_win(own: dict[str, str], ours_are_gone: list[str], kept: Secrets) -> None:
    all_ours = whole_environment({}, PORTS, kept, "pw")
    added = whole_environment(own, PORTS, kept, "pw")
    given = {name: value for name, value in own.items() if value}
    assert added == {name: value for name, value in {**all_ours, **given}.items() if name not in ours_are_gone}


def test_no_process_that_runs_tasks_sees_the_connections_of_persons(kept: Secrets) -> None:
    added = whole_environment({}, PORTS, kept, "superuser-password")
    seen = for_components({"PATH": "/bin", "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor", "PYTHONPATH": "/x"}, added)
    assert set(NOT_FOR_TASKS) <= set(added)
    assert not set(NOT_FOR_TASKS) & set(seen)
    assert "superuser-password" not in "".join(seen.values())
    assert kept.passwords["reminders_operator_login"] not in "".join(seen.values())
    assert seen["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert seen["PATH"].endswith(f"{os.pathsep}/bin")
    assert "PYTHONPATH" not in seen


def test_a_shell_reads_back_exactly_what_was_written(kept: Secrets, tmp_path: Path) -> None:
    odd = {"AIRFLOW_CONN_X": 'it\'s "odd" $HOME `id` \\ {}\nnext'}
    added = {**whole_environment({}, PORTS, kept, "pw"), **odd}
    path = tmp_path / "env"
    path.write_text(shell_lines(added))
    told = subprocess.run(
        ["/bin/sh", "-c", '. "$1" && env -0', "sh", str(path)],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
    )
    read = dict(entry.split("=", 1) for entry in told.stdout.decode().split("\0") if "=" in entry)
    assert {name: read[name] for name in added} == added
    assert read["PATH"].endswith(":/usr/bin:/bin")
    assert {shutil.which(name, path=read["PATH"]) for name in ("airflow", "psql")} == {
        str(programs() / "airflow"),
        str(packaged_programs() / "psql"),
    }
