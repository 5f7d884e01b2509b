# ruff: noqa: E501
"""Attempts at a breach; a docstring tells what went wrong once: the edges of time between intent and socket, reconcile's own queue, and what a repr shows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from reminders import failpoints
from reminders.cycle import reconcile
from reminders.cycle.dispatch import Clock, dispatch
from reminders.cycle.extract import Rules, Stager, extract
from reminders.cycle.stops import HoldWatch
from reminders.errors import Doubtful
from reminders.model import Acceptance, Channel, Contact
from tests.integration.scene import HOUR, MINUTE, SECRET, WEDNESDAY_2PM, Booked, Scene

TEXT_IS_DUE = WEDNESDAY_2PM + 20 * HOUR


def test_attempts_that_cannot_be_read_do_not_keep_the_others_from_being_asked(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest are asked first, and nothing moves those that stay unreadable or unchanged: the rest is never asked."""
    monkeypatch.setattr(reconcile, "MOST_POLLED", 2)
    rows = [
        Booked(TEXT_IS_DUE + i * MINUTE, f"a{i}", client_email=None, client_phone=f"+4420794600{i:02d}")
        for i in range(3)
    ]
    scene.at(WEDNESDAY_2PM).booked(*rows)
    scene.answer = lambda contact: Acceptance(f"SM{contact.attempt_id}", "queued")
    scene.cycle()
    asked = set()

    def status(_channel: Channel, provider_id: str) -> tuple[str, str]:
        asked.add(provider_id)
        raise Doubtful("unreadable_answer")

    for minutes in range(2, 40, 2):
        reconcile.poll(scene.ledger, status, lambda *_: None, scene.now + minutes * MINUTE)
    assert len(asked) == 3


def test_nothing_goes_in_quiet_hours_that_began_after_the_intent(scene: Scene) -> None:
    """An intent at 19:59:50 and a socket half a minute later: the last check knows holds and the lease, no hours."""
    closing = WEDNESDAY_2PM.replace(hour=19, minute=59, second=50)
    scene.at(closing).booked(Booked(closing + 20 * HOUR - timedelta(seconds=50), client_email=None))
    batches = scene.prepare()
    passed: list[float] = [0.0]
    sent_at: list[Any] = []

    def send(contact: Contact, now: Any, last_check: Any) -> Acceptance:
        last_check()
        sent_at.append(now)
        return Acceptance(f"SM{contact.attempt_id}", "queued")

    def wait(point: str) -> None:
        if point == "intend.committed":
            passed[0] = 25.0

    clock = Clock(lambda: closing + timedelta(seconds=passed[0]), lambda: passed[0], lambda _: None)
    watch = HoldWatch(scene.watching.holds, clock.monotonic, clock.now)
    rates = dict.fromkeys(Channel, 1000.0)
    limit = timedelta(minutes=4)
    with failpoints.armed(wait):
        dispatch(scene.ledger, watch, batches[0], dict.fromkeys(Channel, send), rates, clock, limit, lambda: False)
    assert passed == [25.0]
    assert [at for at in sent_at if at.hour >= 20] == []


def test_a_stager_does_not_show_the_key_of_the_hashes() -> None:
    """repr(Stager) holds the address secret and the ids of the book: one log line or f-string away."""
    assert SECRET.decode() not in repr(Stager(WEDNESDAY_2PM, WEDNESDAY_2PM, Rules({}, {}, {}), SECRET))


def test_no_error_of_the_ledger_shows_a_row_in_a_traceback(scene: Scene) -> None:
    """Held: the whole traceback as Airflow renders it, causes and contexts included, holds no number, name or mailbox."""
    import traceback

    import psycopg
    from structlog.tracebacks import ExceptionDictTransformer

    scene.at(WEDNESDAY_2PM).booked(Booked(TEXT_IS_DUE))
    scene.owner.execute("ALTER TABLE reminders.staged_appointment ADD CONSTRAINT nobody CHECK (client_name = '')")
    with pytest.raises(psycopg.Error) as staging:
        extract(scene.ledger, scene.read, scene.now, scene.now, SECRET)
    scene.owner.execute("ALTER TABLE reminders.staged_appointment DROP CONSTRAINT nobody")
    batches = scene.prepare()
    scene.owner.execute("ALTER TABLE reminders.attempt ALTER address TYPE varchar(3)")
    with pytest.raises(psycopg.Error) as sending:
        scene.send(batches)
    for caught in (staging.value, sending.value):
        shown = "".join(traceback.format_exception(caught))
        shown += repr(ExceptionDictTransformer(show_locals=False)((type(caught), caught, caught.__traceback__)))
        for personal in ("2079460018", "Ada", "ada@", "Sample"):
            assert personal not in shown


def test_one_number_that_the_provider_dislikes_does_not_silence_every_account(scene: Scene) -> None:
    """21612, this To with this From: held the channel for all accounts until a person came."""
    from reminders.channels.twilio_codes import classify

    rows = [
        Booked(TEXT_IS_DUE + i * MINUTE, f"a{i}", f"account-{i}", client_email=None, client_phone=f"+4420794600{i:02d}")
        for i in range(3)
    ]

    def answer(contact: Contact) -> Acceptance:
        if contact.account_id == "account-0":
            raise classify(400, 21612)
        scene.reached.append(contact)
        return Acceptance(f"SM{contact.attempt_id}", "queued")

    scene.at(WEDNESDAY_2PM).booked(rows[0])
    scene.answer = answer
    scene.cycle()
    scene.booked(*rows[1:])
    scene.at(WEDNESDAY_2PM + 5 * MINUTE).cycle()
    assert {c.account_id for c in scene.reached} == {"account-1", "account-2"}
