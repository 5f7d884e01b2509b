"""What an operator may set, and what is refused when it is written, in words for the one who wrote it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import psycopg
import pytest

import reminders.wording
from reminders.cycle.dispatch import own_wordings
from reminders.wording.language import LANGUAGES, PLACEHOLDERS
from tests.databases import TestDatabase
from tests.integration.scene import Scene

HOUSE = Path(reminders.wording.__file__).parent
STEP = "INSERT INTO reminders.cadence_step (account_id, step, channel, lead, useful_until, wait) VALUES "
OWN = "INSERT INTO reminders.account_wording (account_id, language, channel, line, words) VALUES "


@pytest.fixture
def operator(ledger: TestDatabase) -> Any:
    return ledger.connect("reminders_operator")


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("('vet', 1, 'email', '2 days', '1 hour', '0'), ('vet', 2, 'sms', '2 days', '1 hour', '0')",
         "step 2 is due no later than step 1: give it a lead below 2 days"),
        ("('vet', 1, 'email', '2 days', '1 hour', '0'), ('vet', 3, 'call', '4 days', '1 hour', '0')",
         "step 3 is due no later than step 1"),
        ("('vet', 1, 'email', '9 hours', '1 hour', '0'), ('vet', 2, 'sms', '6 hours', '1 hour', '4 hours')",
         "step 2 is due before the 04:00:00 that step 1 has for an answer are over: .* a lead of 05:00:00 or less"),
        ("('vet', 1, 'email', '1 hour', '1 hour', '0')", "lead_is_longer_than_useful_until"),
        ("('vet', 1, 'email', '1 hour', '-1 hour', '0')", "useful_until_is_not_after_the_start"),
        ("('vet', 1, 'email', '31 days', '1 hour', '0')", "lead_is_at_most_30_days"),
        ("('vet', 1, 'email', '1 day', '1 hour', '-1 hour')", "wait_is_not_negative"),
        ("('vet', 0, 'email', '1 day', '1 hour', '0')", "step_is_a_number_from_1_to_20"),
        ("('vet', 1, 'fax', '1 day', '1 hour', '0')", "channel_is_email_sms_or_call"),
    ],
)  # fmt: skip
def test_a_ladder_that_cannot_be_climbed_is_refused(operator: Any, steps: str, said: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match=said):
        operator.execute(STEP + steps)
    assert operator.execute("SELECT FROM reminders.cadence_step WHERE account_id = 'vet'").fetchall() == []


def test_a_ladder_is_rewritten_step_by_step_in_one_transaction(operator: Any) -> None:
    with operator.transaction():
        operator.execute(
            STEP + "('vet', 1, 'sms', '1 day', '2 hours', '0'), ('vet', 2, 'call', '5 hours', '0', '1 hour')"
        )
    with operator.transaction():
        operator.execute("UPDATE reminders.cadence_step SET lead = '5 hours' WHERE account_id = 'vet' AND step = 1")
        operator.execute("UPDATE reminders.cadence_step SET lead = '3 hours' WHERE account_id = 'vet' AND step = 2")
    operator.execute("DELETE FROM reminders.cadence_step WHERE account_id = 'vet'")


def test_somebody_always_has_a_ladder(operator: Any) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="need at least one step"):
        operator.execute("DELETE FROM reminders.cadence_step")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("opens = '20:00', closes = '9:00'", "opens_before_closes"),
        ("opens = '9:00', closes = '9:00'", "opens_before_closes"),
        ("closes = '24:00'", "closes_before_midnight"),
        ("office_opens = '17:00', office_closes = '9:00'", "office_opens_before_it_closes"),
        ("office_opens = '17:00', office_closes = '17:00'", "office_opens_before_it_closes"),
        ("office_closes = '24:00'", "office_closes_before_midnight"),
        ("office_days = '{}'", "office_is_open_on_a_day"),
        ("office_days = '{0,1}'", "office_days_are_numbers_from_1_to_7"),
        ("office_days = '{7,8}'", "office_days_are_numbers_from_1_to_7"),
        ("office_days = '{1,NULL}'", "office_days_are_numbers_from_1_to_7"),
        ("office_days = '{{1,2},{3,4}}'", "office_days_are_numbers_from_1_to_7"),
        ("office_days = NULL", "office_days"),
        ("office_opens = '6:00', office_closes = '9:00'", "office_is_open_between_opens_and_closes"),
        ("office_opens = '20:00', office_closes = '22:00'", "office_is_open_between_opens_and_closes"),
        ("opens = '6:00', closes = '8:00'", "office_is_open_between_opens_and_closes"),
        ("call_pace = 0", "call_pace_is_at_least_1"),
        ("call_pace = -1", "call_pace_is_at_least_1"),
        ("phone_gap = '59 seconds'", "phone_gap_is_at_least_1_minute"),
        ("email_gap = '0'", "email_gap_is_at_least_1_minute"),
        ("phone_daily_cap = 0", "phone_daily_cap_is_at_least_1"),
        ("phone_weekly_cap = 0", "phone_weekly_cap_is_at_least_1"),
        ("email_daily_cap = 0", "email_daily_cap_is_at_least_1"),
        ("email_weekly_cap = 0", "email_weekly_cap_is_at_least_1"),
        ("email_ceiling = 0", "email_ceiling_is_at_least_1"),
        ("sms_ceiling = 0", "sms_ceiling_is_at_least_1"),
        ("call_ceiling = -5", "call_ceiling_is_at_least_1"),
    ],
)
def test_hours_and_caps_that_nobody_can_mean_are_refused(operator: Any, written: str, said: str) -> None:
    """Also in the row of everybody, and both when a row is made and when it is changed."""
    names, values = zip(*(part.split(" = ") for part in written.split(", ")), strict=True)
    for statement in (
        f"INSERT INTO reminders.account_policy (account_id, {', '.join(names)}) VALUES ('vet', {', '.join(values)})",
        f"UPDATE reminders.account_policy SET {written} WHERE account_id = '*'",
    ):
        with pytest.raises(psycopg.errors.IntegrityError) as caught:
            operator.execute(statement)
        assert said in (caught.value.diag.constraint_name, caught.value.diag.column_name)
        assert said in str(caught.value.diag.message_primary)


def test_hours_that_an_office_can_keep_are_taken(operator: Any) -> None:
    """An office that is closed for most of the permitted hours, and one whose week is a single day."""
    operator.execute(
        "INSERT INTO reminders.account_policy (account_id, office_opens, office_closes, office_days)"
        " VALUES ('vet', '6:00', '9:01', '{7}'), ('night', '19:59', '23:59', '{5,5}')"
    )


@pytest.mark.parametrize(
    ("row", "refused_by"),
    [
        ("('vet', 'en', 'sms', 'nope', 'x')", "line_exists"),
        ("('vet', 'en', 'fax', 'text', 'x')", "line_exists"),
        ("('vet', 'fr', 'sms', 'text', 'x')", "language_is_spoken"),
        ("('vet', 'en', 'sms', 'text', '$visits $service')", "words_have_known_names"),
        ("('vet', 'en', 'sms', 'text', 'costs $ 5')", "words_have_known_names"),
        ("('vet', 'en', 'sms', 'text', '$names_of')", "words_have_known_names"),
        ("('vet', 'en', 'sms', 'text', '$visits. Reply Stop to end')", "text_has_no_opt_out_word"),
        ("('vet', 'en', 'sms', 'text', repeat('x', 501))", "words_are_short"),
    ],
)
def test_words_that_could_not_be_sent_as_meant_are_refused(operator: Any, row: str, refused_by: str) -> None:
    with pytest.raises(psycopg.errors.IntegrityError) as caught:
        operator.execute(OWN + row)
    assert caught.value.diag.constraint_name == refused_by


def test_an_accounts_own_words_reach_the_channels(scene: Scene, operator: Any) -> None:
    operator.execute(
        OWN + "('vet', 'en', 'sms', 'text', '$account: $$5 off for ${name}'), ('vet', 'es', 'sms', 'join', '/')"
    )
    assert own_wordings(scene.ledger.wordings()) == {
        "vet": {"en": {"sms": {"text": "$account: $$5 off for ${name}"}}, "es": {"sms": {"join": "/"}}}
    }


def test_the_ledger_knows_every_line_language_and_name_of_the_house(operator: Any) -> None:
    for language in LANGUAGES:
        channels = tomllib.loads((HOUSE / f"{language}.toml").read_text(encoding="utf-8"))
        house = {
            (channel, line)
            for channel, lines in channels.items()
            for line, words in lines.items()
            if isinstance(words, str) and channel != "fallback"
        }
        known = set(operator.execute("SELECT channel, line FROM reminders.wording_line").fetchall())
        assert known == house
        for name in PLACEHOLDERS:
            operator.execute(OWN + "(%s, %s, 'sms', 'text', %s)", (name, language, f"${name} ${{{name}}}"))


def test_what_the_guide_writes_is_taken_and_its_table_is_true(operator: Any) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "configuring.md").read_text(encoding="utf-8")
    written = re.findall(r"^```sql\n(.*?)^```", guide, re.DOTALL | re.MULTILINE)
    assert len(written) == 5
    for block in written:
        operator.execute(block)
    told = set(re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\| `.*? \|", guide, re.MULTILINE))))
    columns = operator.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'reminders.account_policy'::regclass AND attnum > 0"
    ).fetchall()
    assert told == {column for (column,) in columns} - {"account_id"}
