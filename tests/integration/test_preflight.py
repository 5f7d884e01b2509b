"""A cycle is refused, in words that name what and the way out, when the guards are gone or the ledger has forgotten."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from reminders.addresses import secret_fingerprint
from reminders.cycle.preflight import ACCEPT, preflight
from reminders.errors import PreflightError, SchemaError
from reminders.store.guards import CONSTRAINTS, ROLES, TRIGGERS, UNIQUE_INDEXES
from reminders.store.ledger import Ledger
from tests.databases import SharedServer, TestDatabase, fill_ledger
from tests.integration.scene import HOUR, MINUTE, SECRET, WEDNESDAY_2PM, Booked, Scene

FINGERPRINT = secret_fingerprint(SECRET)

# What a migration made that is no guard of a promise: keys that only identify rows, and checks of what a person types.
NO_GUARDS = {
    "account_policy_pkey", "account_wording_pkey", "attempt_pkey", "batch_pkey", "cadence_step_pkey",
    "call_ceiling_is_at_least_1", "call_pace_is_at_least_1", "channel_is_email_sms_or_call", "closes_before_midnight",
    "email_ceiling_is_at_least_1", "email_daily_cap_is_at_least_1", "email_gap_is_at_least_1_minute",
    "email_weekly_cap_is_at_least_1", "office_closes_before_midnight", "office_days_are_numbers_from_1_to_7",
    "office_is_open_between_opens_and_closes", "office_is_open_on_a_day", "office_opens_before_it_closes",
    "opens_before_closes", "phone_daily_cap_is_at_least_1", "phone_gap_is_at_least_1_minute",
    "phone_weekly_cap_is_at_least_1", "sms_ceiling_is_at_least_1", "step_is_a_number_from_1_to_20",
    "account_seen_pkey", "age_is_known", "canary_is_1_to_50", "gate_bound_pkey",
    "hold_names_a_group", "hold_scope_is_known", "least_in_all_is_1_to_10000", "least_of_account_is_1_to_1000",
    "longest_gap_is_15_minutes_to_a_day", "overdue_after_is_10_minutes_to_6_hours", "times_usual_is_1_to_10",
    "release_has_a_name", "volume_is_of_an_hour", "volume_pkey", "recovery_pkey",
    "found_contact_pkey",
    "ceiling_in_all_pkey", "clock_pkey", "contact_guard_pkey", "contact_member_pkey", "contact_pkey",
    "contact_reference_key", "contact_whole", "cycle_pkey", "deferred_is_pending", "guard_definition_pkey",
    "hold_names_a_channel", "hold_names_a_cycle", "hold_names_its_scope", "hold_pkey",
    "language_is_spoken", "lead_is_at_most_30_days", "lead_is_longer_than_useful_until", "ledger_mark_pkey",
    "line_exists", "permitted_country_pkey", "release_names_a_person", "reminder_pkey", "schema_migration_pkey",
    "staged_appointment_pkey", "staged_rung_pkey", "state_is_known", "text_has_no_opt_out_word", "transition_pkey",
    "useful_until_is_not_after_the_start", "verdict_pkey", "wait_is_at_most_30_days", "wait_is_not_negative",
    "wording_line_pkey",
    "words_are_short", "words_have_known_names",
}  # fmt: skip


@pytest.fixture
def due(scene: Scene) -> Scene:
    """A text is due, and the ledger has never been used."""
    return scene.at(WEDNESDAY_2PM).booked(Booked(WEDNESDAY_2PM + 20 * HOUR, client_email=None))


def passed(scene: Scene, kept: str | None = None, fingerprint: str = FINGERPRINT) -> str:
    """The mark that a preflight keeps."""
    marks: list[str] = []
    preflight(scene.ledger, kept, marks.append, fingerprint, scene.now)
    # A person's word is taken out of its place first.
    assert len(marks) == (2 if kept == ACCEPT else 1)
    return marks[-1]


def refused(scene: Scene, kept: str | None, fingerprint: str = FINGERPRINT) -> str:
    """The words with which a cycle is refused; nobody is contacted, and the mark stays as it is."""
    before = len(scene.reached)
    marks: list[str] = []
    with pytest.raises(PreflightError) as caught:
        preflight(scene.ledger, kept, marks.append, fingerprint, scene.now)
        scene.cycle()
    assert (marks, len(scene.reached)) == ([], before)
    return str(caught.value)


def held(scene: Scene, kept: str | None) -> str:
    """Why everything is held after a preflight; a cycle contacts nobody, and a person cannot release it yet."""
    before = len(scene.reached)
    assert passed(scene, kept)
    assert scene.cycle() == [] and len(scene.reached) == before
    with pytest.raises(psycopg.errors.CheckViolation, match="provider's list"):
        scene.release()
    [(_, why)] = scene.holds()
    return str(why)


def on(ledger: TestDatabase, scene: Scene) -> Scene:
    """The same practice on fresh connections to another state of the ledger."""
    app = [Ledger(ledger.connect("reminders_app")) for _ in range(2)]
    again = Scene(ledger.connect(), app[0], app[1], book=scene.book, reached=scene.reached)
    return again.at(scene.now)


def dump(ledger: TestDatabase, place: Path) -> Path:
    path = place / "ledger.dump"
    run(ledger, "pg_dump", "--format=custom", f"--file={path}", ledger.conninfo)
    return path


def run(ledger: TestDatabase, program: str, *arguments: str) -> None:
    subprocess.run([str(ledger.server.programs / program), *arguments], check=True, capture_output=True, timeout=60)


def recreate(ledger: TestDatabase) -> None:
    name = sql.Identifier(ledger.name)
    with psycopg.connect(ledger.server.conninfo(), autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
        admin.execute(sql.SQL("CREATE DATABASE {}").format(name))


def test_a_sound_ledger_passes_again_and_again(due: Scene) -> None:
    mark = passed(due)
    assert passed(due, passed(due, mark)) != mark
    assert len(due.cycle()) == 1


def test_a_dump_restored_under_the_same_name_is_another_ledger(due: Scene, ledger: TestDatabase, place: Path) -> None:
    mark = passed(due)
    assert len(due.cycle()) == 1
    saved = dump(ledger, place)
    recreate(ledger)
    run(ledger, "pg_restore", f"--dbname={ledger.conninfo}", str(saved))
    assert "database_oid changed" in held(on(ledger, due), mark)


def test_an_older_dump_in_the_same_database_has_forgotten(due: Scene, ledger: TestDatabase, place: Path) -> None:
    passed(due)
    saved = dump(ledger, place)
    mark = passed(due, ACCEPT)
    assert len(due.cycle()) == 1
    run(ledger, "pg_restore", "--clean", "--if-exists", f"--dbname={ledger.conninfo}", str(saved))
    restored = on(ledger, due)
    assert restored.states() == {}, "it does not know of the contact"
    why = held(restored, mark)
    assert "has forgotten" in why and "200000" in why


def test_a_person_may_take_the_ledger_as_it_is(due: Scene, ledger: TestDatabase, place: Path) -> None:
    mark = passed(due)
    saved = dump(ledger, place)
    recreate(ledger)
    run(ledger, "pg_restore", f"--dbname={ledger.conninfo}", str(saved))
    restored = on(ledger, due)
    assert passed(restored, passed(restored, ACCEPT)) != mark
    assert restored.holds() == []


def test_another_ledger(due: Scene, shared_server: SharedServer) -> None:
    mark = passed(due)
    with shared_server.database(shared_server.template("ledger_template", fill_ledger)) as other:
        assert "database_oid changed" in held(on(other, due), mark)


def test_an_empty_database(due: Scene, blank_database: TestDatabase) -> None:
    assert due.states() == {}
    with pytest.raises(SchemaError, match=r"lacks 0001_ledger.*reminders\.store\.migrate"):
        Ledger(blank_database.connect("reminders_app")).check_schema()


def test_another_address_secret(due: Scene) -> None:
    mark = passed(due)
    words = refused(due, mark, "another")
    assert "reminders_address_secret" in words and "put the old key back" in words
    assert "reminders_address_secret" in refused(due, ACCEPT, "another"), "and no person's word makes it right"


def test_a_mark_that_was_deleted(due: Scene) -> None:
    passed(due)
    assert len(due.cycle()) == 1
    assert "is gone" in held(due.at(due.now + 5 * MINUTE), None)


NUMBERED = '{"system_identifier": "1", "timeline": 1, "database_oid": 1, "reserved_to": %s}'


@pytest.mark.parametrize(
    "kept", ["", "no mark", "{}", "[1]", *(NUMBERED % n for n in ("null", "Infinity", "NaN", "-1", "1e30"))]
)
def test_a_mark_that_is_none(due: Scene, kept: str) -> None:
    assert "reminders_mark" in held(due, kept)


def table_of(owner: Any, constraint: str) -> str:
    row = owner.execute(
        "SELECT conrelid::regclass::text FROM pg_constraint"
        " WHERE conname = %s AND connamespace = 'reminders'::regnamespace",
        (constraint,),
    ).fetchone()
    return str(row[0])


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_a_constraint_that_was_dropped(due: Scene, name: str) -> None:
    mark = passed(due)
    due.owner.execute(f"ALTER TABLE {table_of(due.owner, name)} DROP CONSTRAINT {name} CASCADE")
    words = refused(due, mark)
    assert name in words and "include/sql/migrations" in words


def test_a_constraint_that_is_not_enforced(due: Scene) -> None:
    mark = passed(due)
    due.owner.execute("ALTER TABLE reminders.address_cap DROP CONSTRAINT address_cap_kept")
    due.owner.execute("ALTER TABLE reminders.address_cap ADD CONSTRAINT address_cap_kept CHECK (true) NOT ENFORCED")
    assert "address_cap_kept" in refused(due, mark)


@pytest.mark.parametrize("name", UNIQUE_INDEXES)
def test_a_unique_index_that_was_dropped(due: Scene, name: str) -> None:
    mark = passed(due)
    due.owner.execute(f"DROP INDEX reminders.{name}")
    assert name in refused(due, mark)


@pytest.mark.parametrize("how", ["DISABLE TRIGGER", "ENABLE REPLICA TRIGGER", "DROP"])
@pytest.mark.parametrize("name", TRIGGERS)
def test_a_trigger_that_does_not_fire(due: Scene, name: str, how: str) -> None:
    mark = passed(due)
    table, trigger = name.split(".")
    drop = f"DROP TRIGGER {trigger} ON reminders.{table}"
    due.owner.execute(drop if how == "DROP" else f"ALTER TABLE reminders.{table} {how} {trigger}")
    assert name in refused(due, mark)


def test_triggers_switched_off_for_the_database(due: Scene, ledger: TestDatabase) -> None:
    mark = passed(due)
    due.owner.execute(f"ALTER DATABASE {ledger.name} SET session_replication_role = replica")
    assert set(TRIGGERS) == {name for name in TRIGGERS if name in refused(on(ledger, due), mark)}


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("GRANT DELETE ON reminders.reminder TO reminders_planner", "reminders_planner may DELETE reminder"),
        ("GRANT DELETE ON reminders.attempt TO PUBLIC", "everybody may DELETE attempt"),
        ("GRANT TRUNCATE ON reminders.contact_guard TO reminders_app", "reminders_app may TRUNCATE contact_guard"),
        ("GRANT TRIGGER ON reminders.hold TO reminders_operator", "reminders_operator may TRIGGER hold"),
        ("ALTER TABLE reminders.hold OWNER TO reminders_operator", "reminders_operator may act as reminders_operator"),
        (
            "ALTER FUNCTION reminders.fence_attempts OWNER TO reminders_dispatcher",
            "reminders_dispatcher may act as reminders_dispatcher, which owns the ledger",
        ),
    ],
)
def test_a_role_that_may_do_too_much(due: Scene, statement: str, what: str) -> None:
    mark = passed(due)
    due.owner.execute(statement)
    words = refused(due, mark)
    assert what in words and "take that right back" in words


@pytest.mark.parametrize("role", ROLES)
def test_a_role_that_is_a_member_of_the_owner(due: Scene, role: str) -> None:
    """Roles are the whole server's, and other tests run beside this one: the change is never committed."""
    ledger = Ledger(due.owner)
    with due.owner.transaction(force_rollback=True):
        due.owner.execute(f"GRANT reminders_owner TO {role}")
        words = "; ".join(ledger.excessive_rights())
    assert f"{role} may act as reminders_owner" in words


@pytest.mark.parametrize(("shift", "words"), [(HOUR, "60 minutes ahead of"), (-HOUR, "60 minutes behind")])
def test_clocks_an_hour_apart(due: Scene, shift: timedelta, words: str) -> None:
    mark = passed(due)
    due.now += shift
    assert words in refused(due, mark)


def test_a_login_that_is_a_superuser(due: Scene, ledger: TestDatabase) -> None:
    mark = passed(due)
    due.ledger = Ledger(ledger.connect())
    assert "postgres is a superuser" in refused(due, mark)


def test_every_guard_that_the_migrations_make_is_looked_for(owner: Any) -> None:
    """A new guard is named in the ledger's lists, or above with those that are none."""
    constraints = (
        "SELECT conname FROM pg_constraint"
        " WHERE connamespace = 'reminders'::regnamespace AND contype IN ('c', 'f', 'p', 'u', 'x')"
    )
    indexes = (
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " WHERE i.indisunique AND c.relnamespace = 'reminders'::regnamespace"
        " AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))"
    )
    triggers = (
        "SELECT c.relname || '.' || t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " WHERE NOT t.tgisinternal AND c.relnamespace = 'reminders'::regnamespace"
    )
    # Without a name of its own a check bounds one column, and a key only leads to its table.
    named = {name for (name,) in owner.execute(constraints).fetchall() if not name.endswith(("_check", "_fkey"))}
    assert named == {*CONSTRAINTS, *NO_GUARDS}
    assert {name for (name,) in owner.execute(indexes).fetchall()} == set(UNIQUE_INDEXES)
    assert {name for (name,) in owner.execute(triggers).fetchall()} == set(TRIGGERS)
