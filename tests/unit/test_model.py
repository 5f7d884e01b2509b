"""What the domain's types never show."""

from __future__ import annotations

from datetime import UTC, datetime

from reminders.model import AccountId, AppointmentId, AttemptId, Channel, Contact, Visit

NOON = datetime(2026, 2, 11, 12, tzinfo=UTC)


def test_a_contact_s_repr_says_nothing_of_the_person() -> None:
    visit = Visit(AppointmentId("a-1"), "Canary Name", NOON, NOON, "UTC", "Canary Street")
    contact = Contact(
        attempt_id=AttemptId(7),
        reference="r",
        channel=Channel.SMS,
        address="+442079460018",
        account_id=AccountId("clinic"),
        account_name="Clinic",
        account_phone="+442079460000",
        account_email="canary@example.com",
        locale="en",
        visits=(visit,),
        expires_at=NOON,
    )
    assert "attempt_id=7" in repr(contact)
    assert not [word for word in ("Canary", "canary", "+44") if word in repr(contact)]
