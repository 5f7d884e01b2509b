"""The databases that tests are given: whole, empty, and each test's own."""

from __future__ import annotations

import pytest

from reminders.store.logins import MEMBERSHIPS
from tests.databases import TestDatabase


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_an_empty_ledger_and_an_empty_book(
    ledger: TestDatabase, booking: TestDatabase, turn: int
) -> None:
    assert ledger.connect().execute("SELECT count(*) FROM reminders.reminder").fetchone() == (0,)
    book = booking.connect()
    assert book.execute("SELECT count(*) FROM booking.account").fetchone() == (0,)
    book.execute("INSERT INTO booking.account (account_id) VALUES (%s)", [str(turn)])
    ledger.connect().execute("INSERT INTO reminders.account_policy (account_id) VALUES (%s)", [str(turn)])


@pytest.mark.parametrize("role", sorted({role for roles in MEMBERSHIPS.values() for role in roles}))
def test_a_role_is_acted_as_by_a_login_and_never_by_the_superuser(ledger: TestDatabase, role: str) -> None:
    row = ledger.connect(role).execute("SELECT current_user, session_user <> 'postgres'").fetchone()
    assert row == (role, True)
