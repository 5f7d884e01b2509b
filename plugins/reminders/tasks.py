"""The tasks of the DAGs: they read Airflow's connections and the clock, and hand both to the use cases.

The only module that imports Airflow. Only ids and counts pass through XCom.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, BaseHook, Variable, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowRuntimeError

from reminders.capacity import BATCHES, DISPATCH_TIME_LIMIT, RATES, most_contacts
from reminders.errors import ConfigurationError

if TYPE_CHECKING:
    from reminders.channels import WordingOf
    from reminders.channels.mail import Mailer
    from reminders.channels.telephony import Twilio
    from reminders.cycle.dispatch import Clock, Send
    from reminders.model import Channel
    from reminders.store.ledger import Ledger

log = logging.getLogger(__name__)

MARK = "reminders_mark"
SECRET = "reminders_address_secret"
# Others schedule their DAGs on it: a cycle has brought the ledger up to date.
LEDGER = Asset("delivery_ledger")


def now() -> datetime:
    return datetime.now(UTC)


def connection_of(conn_id: str) -> Any:
    """The Airflow connection, or a `ConfigurationError` that names it and how to set it."""
    try:
        return BaseHook.get_connection(conn_id)
    except Exception as error:
        raise ConfigurationError(
            f"the connection {conn_id} is missing or unreadable: set AIRFLOW_CONN_{conn_id.upper()} or add it in the "
            "Airflow UI"
        ) from error


@contextmanager
def database(conn_id: str) -> Iterator[Any]:
    """A psycopg 3 connection to `conn_id`; its failure is told without the address or the password."""
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    from reminders.store.logins import KEEPALIVES

    connection_of(conn_id)
    try:
        hook = PostgresHook(postgres_conn_id=conn_id)
        # The hook hands libpq what the extras say, and takes parameters from nowhere else.
        hook.connection.extra = json.dumps({**KEEPALIVES, **hook.connection.extra_dejson})
        connection: Any = hook.get_conn()
    except Exception as error:
        raise ConfigurationError(
            f"{conn_id} does not answer ({type(error).__name__}): is the server up, are login and password right?"
        ) from None
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def ledger_db() -> Iterator[Ledger]:
    from reminders.store.ledger import Ledger

    with database("ledger_db") as connection:
        yield Ledger(connection)


def address_secret() -> bytes:
    from reminders.addresses import checked_secret

    try:
        secret = Variable.get(SECRET)
    except (KeyError, AirflowRuntimeError):
        secret = None
    return checked_secret(secret)


def kept_mark() -> str | None:
    """The mark that the last cycle kept outside the ledger; None when there is none.

    Raises `ConfigurationError` when Airflow does not say: a failing API server looks to the Task SDK like a Variable
    that was never set, and only the list of names tells the two apart.
    """
    try:
        mark: str | None = Variable.get(MARK, default=None)
        is_hidden = mark is None and MARK in Variable.keys(prefix=MARK)
    except Exception as error:
        raise ConfigurationError(
            f"Airflow does not say what the Variable {MARK} is ({type(error).__name__}), and nothing is sent before it "
            "does: look at the API server"
        ) from error
    if is_hidden:
        raise ConfigurationError(
            f"Airflow has the Variable {MARK}, and cannot read it; nothing is sent before it can: look at the API "
            "server, and whether its Fernet key was changed"
        )
    return mark


def cycle_key() -> tuple[datetime, str, bool]:
    """The cycle's key, the kind of its run, and whether the run has a logical date of its own."""
    from reminders.cycle.preflight import CLOCKS_APART

    run: Any = get_current_context()["dag_run"]
    kind = str(getattr(run.run_type, "value", run.run_type))
    kind = kind if kind in ("scheduled", "backfill") else "manual"
    key = (run.logical_date or run.run_after).astimezone(UTC)
    if key > now() + CLOCKS_APART:
        raise ConfigurationError(f"the logical date {key:%Y-%m-%d %H:%M} UTC is in the future: trigger without one")
    return key, kind, run.logical_date is not None


def rehearsal() -> str:
    """What would go out if sending resumed now, as a table of account ids and figures."""
    from reminders.cycle.rehearse import rehearse
    from reminders.store.book import read_book

    with ledger_db() as ledger, database("booking_db") as book:
        return str(rehearse(ledger, partial(read_book, book), now(), address_secret()))


@task.short_circuit
def preflight() -> bool:
    """Refuse to send when a guard is missing; hold everything when the ledger has forgotten; reserve attempt numbers.

    With the parameter `rehearse` it tells what would go out, and returns False: nothing after it runs.
    """
    context: Any = get_current_context()
    if context["params"].get("rehearse"):
        log.info("%s", rehearsal())
        return False
    from reminders.addresses import secret_fingerprint
    from reminders.cycle.preflight import kept_surely
    from reminders.cycle.preflight import preflight as check

    kept = kept_mark()
    keep = kept_surely(MARK, partial(Variable.set, MARK), kept_mark)
    with ledger_db() as ledger:
        ledger.check_schema()
        check(ledger, kept, keep, secret_fingerprint(address_secret()), now())
    return True


@task
def extract_due() -> int:
    """Stage the book as it is now; returns how many appointments it has."""
    from reminders.cycle.extract import extract
    from reminders.store.book import read_book

    logical_date, _, _ = cycle_key()
    with ledger_db() as ledger, database("booking_db") as book:
        return extract(ledger, partial(read_book, book), logical_date, now(), address_secret())


@task
def merge_ledger() -> dict[str, int]:
    """Bring the staged book into the ledger by one MERGE; returns counts."""
    logical_date, kind, has_own_date = cycle_key()
    with ledger_db() as ledger:
        return dict(ledger.merge(logical_date, kind, has_own_date, now()))


@task
def triage() -> dict[str, int]:
    """Give every reminder its disposition, and hold what a person must see before it goes; returns counts."""
    from reminders.cycle.triage import triage as triage_cycle

    logical_date, kind, _ = cycle_key()
    with ledger_db() as ledger:
        return triage_cycle(ledger, logical_date, kind, now())


@task
def plan_batches() -> list[int]:
    """Bundle ready reminders into contacts and a few batches; returns batch ids, none for a backfill."""
    logical_date, kind, _ = cycle_key()
    if kind == "backfill":
        return []
    with ledger_db() as ledger:
        return ledger.plan(logical_date, now(), most_contacts(), BATCHES)


@task(execution_timeout=DISPATCH_TIME_LIMIT, retries=0)
def dispatch(batch_id: int) -> dict[str, int]:
    """Send one batch; returns how many contacts ended in which outcome."""
    from reminders.cycle.dispatch import dispatch as send_batch
    from reminders.cycle.dispatch import own_wordings
    from reminders.cycle.stops import HoldWatch
    from reminders.model import Channel
    from reminders.store.ledger import Ledger

    clock = wall_clock()
    rates = {Channel(channel): rate for channel, rate in RATES.items()}
    with ledger_db() as ledger, database("ledger_db") as watching:
        watch = HoldWatch(Ledger(watching).holds, clock.monotonic, clock.now)
        sending = senders(own_wordings(ledger.wordings()).get)
        return send_batch(ledger, watch, batch_id, sending, rates, clock, DISPATCH_TIME_LIMIT, pause_question())


def pause_question() -> Callable[[], bool]:
    """Asks Airflow, each time it is called, whether this run's DAG is paused. For the task's main thread.

    `dag.test()` and `airflow dags test` run a paused DAG, which every new one is: there a person runs it, and a hold or
    Ctrl-C is the stop.
    """
    from airflow.sdk.execution_time import task_runner

    # By its name, which a change of Airflow's may take away: then a paused DAG sends nothing.
    if type(getattr(task_runner, "SUPERVISOR_COMMS", None)).__name__ == "InProcessSupervisorComms":
        return lambda: False
    instance: Any = get_current_context()["ti"]
    return lambda: instance.get_dag(instance.dag_id).is_paused


@task(trigger_rule="all_done", outlets=[LEDGER])
def close_cycle() -> dict[str, Any]:
    """Write the cycle's row and check the invariants; fails when anything upstream failed or a promise is broken."""
    from reminders.cycle.close import close

    logical_date, _, _ = cycle_key()
    context: Any = get_current_context()
    failed = failed_upstream(context)
    with ledger_db() as ledger:
        closed = close(ledger, logical_date, not failed, now())
    if failed:
        raise RuntimeError(f"these tasks did not succeed: {', '.join(failed)}")
    if closed["breaches"]:
        raise RuntimeError(f"the ledger breaks its promises: {closed['breaches']}")
    return closed


def failed_upstream(context: Any) -> list[str]:
    """The ids of this run's tasks that failed, or were not run because one of theirs failed."""
    instance = context["ti"]
    states = instance.get_task_states(dag_id=instance.dag_id, run_ids=[instance.run_id])
    return sorted(
        task_id for task_id, state in states[instance.run_id].items() if state in ("failed", "upstream_failed")
    )


@task
def close_dead_attempts() -> dict[str, int]:
    """Move attempts past their deadline into doubt, and old doubt to unknown; returns counts."""
    from reminders.cycle.reconcile import close_dead

    with ledger_db() as ledger:
        return close_dead(ledger, now())


@task
def resolve_doubts() -> dict[str, int]:
    """Apply the inbox's reports, and look up in the provider's list what is in doubt; returns counts."""
    from reminders.channels.telephony import final_status
    from reminders.cycle.doubts import apply_events, look_up
    from reminders.store.evidence import Evidence

    with ledger_db() as ledger:
        evidence = Evidence(ledger.connection)
        applied = apply_events(ledger, evidence, final_status, now())
        return {**applied, **look_up(ledger, evidence, twilio().listed, final_status, now())}


@task
def poll_accepted() -> dict[str, int]:
    """Cancel at the provider what nobody needs, and ask how accepted texts and calls ended; returns counts."""
    from reminders.channels.telephony import final_status
    from reminders.cycle.reconcile import cancel_at_provider, poll
    from reminders.store.evidence import Evidence

    provider = twilio()
    with ledger_db() as ledger:
        cancelled = cancel_at_provider(Evidence(ledger.connection), provider.cancel)
        return {**cancelled, **poll(ledger, provider.status, final_status, now())}


@task(execution_timeout=timedelta(minutes=15))
def recover_forgotten() -> dict[str, int]:
    """Read the provider's list for a ledger that has forgotten; returns what `recovery.recover` counts."""
    from reminders.cycle.recovery import recover
    from reminders.store.evidence import Evidence

    with ledger_db() as ledger:
        evidence = Evidence(ledger.connection)
        return recover(evidence, twilio().listed, address_secret(), now())


@task
def audit() -> dict[str, Any]:
    """Hold yesterday's ledger against the provider's list, and ask for every promise; fails when one was broken."""
    from reminders.channels.telephony import final_status
    from reminders.cycle.audit import Provider
    from reminders.cycle.audit import audit as audit_ledger

    provider = twilio()
    with ledger_db() as ledger:
        found = audit_ledger(ledger, Provider(provider.listed, provider.status, final_status), now())
    if found["breaches"]:
        # Not tried again: a person has to look.
        raise AirflowFailException(f"the audit holds everything: {found['breaches']}")
    return found


def wall_clock() -> Clock:
    from reminders.cycle.dispatch import Clock

    return Clock(now, time.monotonic, time.sleep)


def twilio(wording_of: WordingOf = lambda _account_id: None) -> Twilio:
    from reminders.channels.telephony import Twilio

    connection = connection_of("twilio_default")
    extra = connection.extra_dejson
    if not extra.get("from_sms") and not extra.get("messaging_service_sid"):
        raise ConfigurationError("the connection twilio_default has no from_sms in its extra")
    # A messaging service sends texts only.
    if not extra.get("from_call"):
        raise ConfigurationError("the connection twilio_default has no from_call in its extra")
    return Twilio(
        account_sid=connection.login,
        auth_token=connection.password,
        base_url=base_url(connection),
        from_sms=extra.get("from_sms"),
        from_call=extra.get("from_call"),
        messaging_service_sid=extra.get("messaging_service_sid"),
        wording_of=wording_of,
    )


def base_url(connection: Any) -> str | None:
    """The API's base URL that the connection's host names, with its port; None is the real one."""
    host = connection.host
    if not host:
        return None
    scheme = "" if "://" in host else f"{connection.schema or 'https'}://"
    port = f":{connection.port}" if connection.port else ""
    return f"{scheme}{host}{port}"


def mailer(wording_of: WordingOf) -> Mailer:
    from reminders.channels.mail import Mailer

    connection = connection_of("smtp_default")
    extra = connection.extra_dejson
    sender = extra.get("from_email") or connection.login
    if not sender:
        raise ConfigurationError("the connection smtp_default has no from_email in its extra, and no login")
    return Mailer(
        host=connection.host,
        port=connection.port or 587,
        login=connection.login,
        password=connection.password,
        sender=sender,
        starttls=not extra.get("disable_tls", False),
        ssl=not extra.get("disable_ssl", True),
        wording_of=wording_of,
    )


def senders(wording_of: WordingOf) -> dict[Channel, Send]:
    """One sender for each channel, over one mailer and one Twilio client."""
    from reminders.model import Channel

    by_mail, by_phone = mailer(wording_of), twilio(wording_of)
    sending: dict[Channel, Callable[..., Any]] = {
        Channel.EMAIL: by_mail.send,
        Channel.SMS: by_phone.text,
        Channel.CALL: by_phone.call,
    }
    return sending
