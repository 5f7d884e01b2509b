"""The environment of `make run`: secrets that are kept, Airflow's settings, the connections, and the file to source.

A connection that the caller's environment already has is never replaced.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import sys
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from local.postgres import packaged_programs

ROOT = Path(__file__).resolve().parents[1]
LOCAL = ROOT / ".local"

AIRFLOW_LOGIN = "airflow"
BOOKING_LOGIN = "booking_reader"
APP_LOGIN = "reminders_app"
PERSONS = {
    "ledger_db_operator": "reminders_operator_login",
    "ledger_db_webhook": "reminders_webhook_login",
    "ledger_db_analyst": "reminders_analyst_login",
}
LOGINS = (AIRFLOW_LOGIN, BOOKING_LOGIN, APP_LOGIN, *PERSONS.values())

SENDER = "reminders@example.com"
# Twilio's own test number: no phone can have it. https://www.twilio.com/docs/iam/test-credentials
FROM_NUMBER = "+15005550006"

# No process that runs tasks is given these: they could change the schema or act for a person.
NOT_FOR_TASKS = ("AIRFLOW_CONN_LEDGER_DB_MIGRATE", *(f"AIRFLOW_CONN_{name.upper()}" for name in PERSONS))


@dataclass(frozen=True, slots=True)
class Ports:
    """Who listens where on 127.0.0.1."""

    postgres: int
    airflow: int
    worker_logs: int
    triggerer_logs: int
    simulator: int
    smtp: int

    @property
    def airflow_url(self) -> str:
        return f"http://127.0.0.1:{self.airflow}"

    @property
    def simulator_url(self) -> str:
        return f"http://127.0.0.1:{self.simulator}"


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """Random values that are made once and kept, beside one password for each login."""

    address_secret: str
    jwt_secret: str
    api_secret: str
    fernet_key: str
    simulator_sid: str
    simulator_token: str
    passwords: Mapping[str, str]


def kept_secrets(path: Path) -> Secrets:
    """The secrets in `path` (JSON, mode 0600); those that are missing are made and written first."""
    made: dict[str, Any] = {
        "address_secret": secrets.token_urlsafe(48),
        # Airflow wants 64 bytes or more for HS512.
        "jwt_secret": secrets.token_urlsafe(64),
        "api_secret": secrets.token_urlsafe(48),
        "fernet_key": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "simulator_sid": "AC" + secrets.token_hex(16),
        "simulator_token": secrets.token_hex(16),
        "passwords": {login: secrets.token_urlsafe(24) for login in LOGINS},
    }
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    passwords = {**made["passwords"], **kept.get("passwords", {})}
    whole = {**made, **kept, "passwords": passwords}
    if whole != kept:
        write_private(path, json.dumps(whole, indent=1))
    return Secrets(**whole)


def write_private(path: Path, text: str) -> None:
    """Write `text` so that nobody else can ever read it, and no reader sees half of it."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def postgres_uri(login: str, password: str, port: int, database: str, scheme: str = "postgres") -> str:
    """A connection URI on loopback, in Airflow's form (`postgres`) or SQLAlchemy's."""
    return f"{scheme}://{quote(login, safe='')}:{quote(password, safe='')}@127.0.0.1:{port}/{database}"


def connections(ports: Ports, kept: Secrets, superuser_password: str) -> dict[str, str]:
    """Every `AIRFLOW_CONN_*` of a run without connections of the caller's: our databases and the simulator."""

    def ledger(login: str) -> str:
        return postgres_uri(login, kept.passwords[login], ports.postgres, "ledger")

    return {
        "AIRFLOW_CONN_BOOKING_DB": postgres_uri(
            BOOKING_LOGIN, kept.passwords[BOOKING_LOGIN], ports.postgres, "booking"
        ),
        "AIRFLOW_CONN_LEDGER_DB": ledger(APP_LOGIN),
        **{f"AIRFLOW_CONN_{name.upper()}": ledger(login) for name, login in PERSONS.items()},
        "AIRFLOW_CONN_LEDGER_DB_MIGRATE": postgres_uri("postgres", superuser_password, ports.postgres, "ledger"),
        "AIRFLOW_CONN_TWILIO_DEFAULT": json.dumps(
            {
                "conn_type": "twilio",
                "host": ports.simulator_url,
                "login": kept.simulator_sid,
                "password": kept.simulator_token,
                "extra": {"from_sms": FROM_NUMBER, "from_call": FROM_NUMBER},
            }
        ),
        "AIRFLOW_CONN_SMTP_DEFAULT": json.dumps(
            {
                "conn_type": "smtp",
                "host": "127.0.0.1",
                "port": ports.smtp,
                "extra": {"from_email": SENDER, "disable_tls": True, "disable_ssl": True},
            }
        ),
    }


def airflow_settings(ports: Ports, kept: Secrets, local: Path = LOCAL) -> dict[str, str]:
    """Airflow's own settings: LocalExecutor, loopback only, no login, its metadata on our server."""
    home = local / "airflow"
    metadata = postgres_uri(
        AIRFLOW_LOGIN, kept.passwords[AIRFLOW_LOGIN], ports.postgres, "airflow", "postgresql+psycopg2"
    )
    settings = {
        "CORE__DAGS_FOLDER": ROOT / "dags",
        "CORE__PLUGINS_FOLDER": ROOT / "plugins",
        "CORE__LOAD_EXAMPLES": False,
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": 8,
        "CORE__FERNET_KEY": kept.fernet_key,
        "CORE__EXECUTION_API_SERVER_URL": f"{ports.airflow_url}/execution/",
        # Nobody logs in: the server listens on loopback only.
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": True,
        "DATABASE__SQL_ALCHEMY_CONN": metadata,
        "API__HOST": "127.0.0.1",
        "API__PORT": ports.airflow,
        "API__BASE_URL": ports.airflow_url,
        "API__WORKERS": 1,
        "API__SECRET_KEY": kept.api_secret,
        "API_AUTH__JWT_SECRET": kept.jwt_secret,
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.2,
        "SCHEDULER__MAX_TIS_PER_QUERY": 64,
        "LOGGING__BASE_LOG_FOLDER": home / "logs",
        "LOGGING__WORKER_LOG_SERVER_PORT": ports.worker_logs,
        "LOGGING__TRIGGER_LOG_SERVER_PORT": ports.triggerer_logs,
        "USAGE_DATA_COLLECTION__ENABLED": False,
    }
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_VAR_REMINDERS_ADDRESS_SECRET": kept.address_secret,
        "SCARF_ANALYTICS": "false",
        **{f"AIRFLOW__{name}": str(value) for name, value in settings.items()},
    }


def whole_environment(
    own: Mapping[str, str], ports: Ports, kept: Secrets, superuser_password: str, local: Path = LOCAL
) -> dict[str, str]:
    """What a run adds to the caller's environment `own`: all but the connections that `own` has already."""
    ours = {
        **airflow_settings(ports, kept, local),
        **connections(ports, kept, superuser_password),
        "RINGONCE_AIRFLOW_URL": ports.airflow_url,
        "RINGONCE_POSTGRES_PORT": str(ports.postgres),
        "RINGONCE_SIMULATOR_URL": ports.simulator_url,
        "RINGONCE_SIMULATOR_SMTP_PORT": str(ports.smtp),
    }
    if given(own, "twilio_default") and given(own, "smtp_default"):
        del ours["RINGONCE_SIMULATOR_URL"], ours["RINGONCE_SIMULATOR_SMTP_PORT"]
    if given(own, "ledger_db"):
        # Another ledger than ours: our other logins are nobody there.
        ours = {name: value for name, value in ours.items() if not name.startswith("AIRFLOW_CONN_LEDGER_DB")}
    wins = {name: value for name, value in own.items() if name.startswith("AIRFLOW_CONN_") and value}
    return {**ours, **wins}


def given(own: Mapping[str, str], connection_id: str) -> bool:
    """Whether the caller's environment has this Airflow connection; an empty value counts as none."""
    return bool(own.get(f"AIRFLOW_CONN_{connection_id.upper()}"))


def for_components(own: Mapping[str, str], added: Mapping[str, str]) -> dict[str, str]:
    """The environment of Airflow's processes: without other settings of Airflow, and without NOT_FOR_TASKS."""
    clean = {name: value for name, value in own.items() if not name.startswith(("AIRFLOW__", "PYTHONPATH"))}
    whole = {**clean, **added, "PATH": f"{programs()}{os.pathsep}{own.get('PATH', os.defpath)}"}
    return {name: value for name, value in whole.items() if name not in NOT_FOR_TASKS}


def programs() -> Path:
    """The folder of this environment's programs."""
    return Path(sys.executable).parent


def shell_lines(added: Mapping[str, str]) -> str:
    """The environment as lines to source in a POSIX shell."""
    lines = ["# The environment of the `make run` that is running: . .local/env && airflow dags list"]
    folders = (programs(), packaged_programs())
    lines += [f'export PATH={":".join(shlex.quote(str(folder)) for folder in folders)}:"$PATH"']
    lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(added.items())]
    return "\n".join([*lines, ""])
