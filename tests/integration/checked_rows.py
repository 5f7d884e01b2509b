"""Rows of every table as they are meant, and what is refused of each, by which constraint or key."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.integration.rows import ATTEMPT, GUARD, HERE, HOLD, NOW, REMINDER, TODAY, VISIT
from tests.integration.scene import HOUR, MINUTE

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)

Columns = dict[str, Any]

CHANNELS = ("email", "sms", "call")
ROWS: dict[str, Columns] = {
    "account_policy": {"account_id": "vet"},
    "account_seen": {"account_id": "vet", "first_seen_at": NOW},
    "account_wording": {
        "account_id": "vet", "language": "en", "channel": "sms", "line": "text", "words": "$visits",
    },
    "address_cap": {"address_hash": HERE, "period": "day", "starts_on": TODAY, "contact_count": 1, "cap": 2},
    "address_gap": {
        "address_hash": HERE, "last_contact_at": NOW, "previous_contact_at": NOW - HOUR, "min_gap": HOUR,
    },
    "attempt": ATTEMPT | {"local_day": TODAY, "book_read_at": NOW, "deadline_at": NOW + MINUTE},
    "batch": {"logical_date": NOW, "channel": "sms", "share": 1, "planned_at": NOW},
    "cadence_step": {
        "account_id": "vet", "step": 1, "channel": "sms", "lead": DAY, "useful_until": HOUR, "wait": HOUR,
    },
    "ceiling_in_all": {"channel": "fax", "ceiling": 1},
    "clock": {"shift": HOUR},
    "contact": {
        "batch_id": 1, "account_id": "clinic", "channel": "sms", "address_hash": HERE, "zone": "UTC", "place": 1,
    },
    "contact_guard": GUARD,
    "contact_member": {"contact_id": 1, "reminder_id": 1},
    "cycle": {"logical_date": NOW, "run_kind": "scheduled", "has_own_date": True, "started_at": NOW},
    "daily_ceiling": {"account_id": "vet", "channel": "sms", "day": TODAY, "contact_count": 1, "ceiling": 2},
    "found_contact": {
        "channel": "sms", "provider_id": "SM1", "recovery_id": 1, "address_hash": HERE, "address_masked": "",
        "contacted_at": NOW, "provider_status": "sent",
    },
    "gate_bound": {"is_only": True},
    "guard_definition": {"name": "a guard", "fingerprint": "x"},
    "hold": HOLD | {"scope": "all"},
    "ledger_mark": {"is_only": True},
    "permitted_country": {"country": "IT"},
    "provider_event": {"provider_id": "SM1", "provider_status": "sent"},
    "recovery": {"hold_id": 1, "why": "a loss", "missing_from": NOW - HOUR, "begun_at": NOW},
    "reminder": REMINDER,
    "schema_migration": {"version": 999, "name": "new", "checksum": "x"},
    "suppression": {"address_hash": HERE, "channel": "*", "reason": "opted_out"},
    "transition": {"from_state": "pending", "to_state": "held", "role_name": "reminders_webhook"},
    "verdict": {"verdict": "new", "disposition": "ready", "meaning": "a new one"},
    "volume": {
        "account_id": "vet", "channel": "sms", "hour_at": NOW, "contacts": 1, "overdue": 0, "repeated": 0,
    },
    "wording_line": {"channel": "sms", "line": "new"},
}  # fmt: skip
# There is one already, and a second is refused.
ONLY_ONE = ("gate_bound", "ledger_mark", "clock")

SENT: Columns = {"contact_id": 1, "sent_at": NOW}
OVER: Columns = {"ended_at": NOW, "reason": "x"}
# What each state of a reminder asks for.
STATES: dict[str, Columns] = {
    "pending": {}, "held": {}, "sending": SENT, "in_doubt": SENT, "accepted": SENT,
    "delivered": SENT | OVER | {"delivered_at": NOW, "delivery_evidence": "x"},
    "undelivered": SENT | OVER, "failed": SENT | OVER, "unknown": SENT | OVER,
    "expired": OVER, "superseded": OVER, "cancelled": OVER, "suppressed": OVER,
}  # fmt: skip
SETTLED = {"listed_at": NOW + 10 * MINUTE}
GROUP = {"scope": "group", "scope_value": "vet 1 older", "account_id": "vet", "step": 1, "age": "older"}


def hours(**times: str) -> Columns:
    return times


# What is refused, in which row; and by which constraint.
REFUSED: list[tuple[str, str, Columns]] = [
    ("reminder", "reminder_step_check", {"step": -1, "channel": "email"}),
    ("reminder", "reminder_step_check", {"step": 21}),
    ("reminder", "reminder_channel_check", {"channel": "fax"}),
    ("reminder", "state_is_known", {"state": "lost"}),
    ("reminder", "cancellation_is_an_email", {"step": 0}),
    ("reminder", "deferred_is_pending", STATES["sending"] | {"state": "sending", "deferred_for": "x"}),
    ("reminder", "deferred_is_pending", STATES["expired"] | {"state": "expired", "deferred_for": "x"}),
    ("reminder", "slot_is_a_minute", {"slot_at": VISIT + SECOND}),
    ("reminder", "window_runs_forward", {"due_at": NOW, "expires_at": NOW}),
    ("reminder", "window_runs_forward", {"expires_at": VISIT + MINUTE}),
    ("reminder", "turned_down_to_email", {"turned_down_from": "sms"}),
    ("reminder", "turned_down_to_email", {"turned_down_from": "email", "channel": "email"}),
    ("reminder", "delivered_has_evidence", STATES["delivered"] | {"state": "delivered", "delivered_at": None}),
    ("reminder", "delivered_has_evidence", STATES["delivered"] | {"state": "delivered", "delivery_evidence": None}),
    *(
        ("reminder", "contacted_has_contact", columns | {"state": state, missing: None})
        for state, columns in STATES.items()
        if "contact_id" in columns
        for missing in ("contact_id", "address_hash", "sent_at")
    ),
    *(
        ("reminder", "ended_has_time_and_reason", columns | {"state": state} | wrong)
        for state, columns in STATES.items()
        for wrong in (
            ({"ended_at": None, "reason": None}, {"ended_at": None}, {"reason": None})
            if "ended_at" in columns
            else ({"ended_at": NOW, "reason": "x"}, {"ended_at": NOW}, {"reason": "x"})
        )
    ),
    ("attempt", "attempt_channel_check", {"channel": "fax"}),
    ("attempt", "attempt_state_check", {"state": "lost", "ended_at": NOW}),
    ("attempt", "attempt_deadline", {"deadline_at": NOW}),
    ("attempt", "attempt_deadline", {"deadline_at": NOW + 10 * MINUTE + SECOND}),
    ("attempt", "book_is_fresh", {"book_read_at": NOW - 10 * MINUTE - SECOND}),
    ("attempt", "local_day_is_right", {"local_day": TODAY + DAY}),
    ("attempt", "local_day_is_right", {"zone": "Pacific/Kiritimati"}),
    ("attempt", "number_may_be_dialled", {"address_country": None}),
    ("attempt", "number_may_be_dialled", {"address_type": "premium_rate"}),
    ("attempt", "number_may_be_dialled", {"address_type": "shared_cost", "channel": "call"}),
    *(("attempt", "attempt_ended", {"state": state, "ended_at": NOW}) for state in ("sending", "in_doubt", "accepted")),
    *(("attempt", "attempt_ended", {"state": state})
      for state in ("delivered", "undelivered", "cancelled", "failed", "unknown", "not_contacted")),
    ("attempt", "rebuilt_is_no_intent", {"is_rebuilt": True}),
    ("attempt", "rebuilt_is_no_intent", {"is_rebuilt": True, "state": "not_contacted", "ended_at": NOW}),
    ("found_contact", "found_contact_channel_check", {"channel": "email"}),
    ("recovery", "recovery_why_check", {"why": ""}),
    ("recovery", "list_is_settled", {"listed_at": NOW + 10 * MINUTE - SECOND}),
    ("recovery", "taken_after_the_list", SETTLED | {"taken_at": NOW}),
    ("address_cap", "address_cap_kept", {"contact_count": 3}),
    ("address_cap", "address_cap_kept", {"contact_count": -1}),
    ("address_cap", "address_cap_period_check", {"period": "month"}),
    ("address_gap", "address_gap_kept", {"previous_contact_at": NOW - HOUR + SECOND}),
    ("daily_ceiling", "daily_ceiling_kept", {"contact_count": 3}),
    ("daily_ceiling", "daily_ceiling_kept", {"contact_count": -1}),
    ("batch", "batch_share_check", {"share": 0}),
    ("ceiling_in_all", "ceiling_in_all_ceiling_check", {"ceiling": 0}),
    ("suppression", "suppression_channel_check", {"channel": "fax"}),
    ("suppression", "suppression_reason_check", {"reason": "dislike"}),
    ("transition", "state_is_known", {"to_state": "lost"}),
    ("verdict", "verdict_disposition_check", {"disposition": "lost"}),
    ("volume", "volume_channel_check", {"channel": "fax"}),
    ("volume", "volume_is_of_an_hour", {"hour_at": NOW + MINUTE}),
    ("wording_line", "wording_line_channel_check", {"channel": "fax"}),
    ("cycle", "cycle_run_kind_check", {"run_kind": "odd"}),
    ("cycle", "good_cycle_was_judged", {"is_good": True}),
    *((table, f"{table}_is_only_check", {"is_only": False}) for table in ONLY_ONE),
    # Holds
    ("hold", "hold_scope_is_known", {"scope": "city", "scope_value": "x"}),
    ("hold", "hold_placed_by_check", {"placed_by": ""}),
    ("hold", "hold_why_check", {"why": ""}),
    ("hold", "hold_names_its_scope", {"scope_value": "x"}),
    ("hold", "hold_names_its_scope", {"scope": "account"}),
    ("hold", "hold_names_a_channel", {"scope": "channel", "scope_value": "fax"}),
    ("hold", "hold_names_a_cycle", {"scope": "cycle", "scope_value": "noon"}),
    *(("hold", "hold_names_a_group", GROUP | {missing: None}) for missing in ("account_id", "step", "age")),
    *(("hold", "hold_names_a_group", {name: GROUP[name]}) for name in ("account_id", "step", "age")),
    ("hold", "hold_names_a_group", {name: GROUP[name] for name in ("account_id", "step", "age")}),
    ("hold", "hold_names_a_group", {name: GROUP[name] for name in ("scope", "scope_value")}),
    ("hold", "age_is_known", GROUP | {"age": "ancient"}),
    ("hold", "release_names_a_person", {"released_at": NOW}),
    ("hold", "release_names_a_person", {"released_by": "Ana"}),
    ("hold", "release_has_a_name", {"released_at": NOW, "released_by": ""}),
    # What an account sets
    ("cadence_step", "step_is_a_number_from_1_to_20", {"step": 0}),
    ("cadence_step", "step_is_a_number_from_1_to_20", {"step": 21}),
    ("cadence_step", "channel_is_email_sms_or_call", {"channel": "fax"}),
    ("cadence_step", "lead_is_longer_than_useful_until", {"lead": HOUR}),
    ("cadence_step", "lead_is_at_most_30_days", {"lead": 30 * DAY + SECOND}),
    ("cadence_step", "useful_until_is_not_after_the_start", {"useful_until": -SECOND}),
    ("cadence_step", "wait_is_not_negative", {"wait": -SECOND}),
    ("cadence_step", "wait_is_at_most_30_days", {"wait": 30 * DAY + SECOND}),
    *(("account_policy", f"{name}_is_at_least_1", {name: 0}) for name in (
        "call_pace", "phone_daily_cap", "phone_weekly_cap", "email_daily_cap", "email_weekly_cap", "email_ceiling",
        "sms_ceiling", "call_ceiling",
    )),
    *(("account_policy", f"{name}_gap_is_at_least_1_minute", {f"{name}_gap": MINUTE - SECOND})
      for name in ("phone", "email")),
    ("account_policy", "opens_before_closes", hours(opens="9:00", closes="9:00")),
    ("account_policy", "opens_before_closes", hours(opens="21:00", closes="8:00")),
    ("account_policy", "closes_before_midnight", hours(closes="24:00")),
    ("account_policy", "office_closes_before_midnight", hours(office_closes="24:00")),
    ("account_policy", "office_opens_before_it_closes", hours(office_opens="21:00", office_closes="21:00")),
    ("account_policy", "office_is_open_between_opens_and_closes", hours(office_opens="20:00", office_closes="22:00")),
    ("account_policy", "office_is_open_between_opens_and_closes", hours(office_opens="6:00", office_closes="9:00")),
    ("account_policy", "office_is_open_on_a_day", {"office_days": []}),
    ("account_policy", "office_days_are_numbers_from_1_to_7", {"office_days": [0]}),
    ("account_policy", "office_days_are_numbers_from_1_to_7", {"office_days": [[1, 2], [3, 4]]}),
    ("account_wording", "language_is_spoken", {"language": "fr"}),
    ("account_wording", "words_are_short", {"words": "x" * 501}),
    ("account_wording", "words_have_known_names", {"words": "$unknown"}),
    ("account_wording", "text_has_no_opt_out_word", {"words": "reply STOP"}),
]  # fmt: skip

TAKEN: list[tuple[str, Columns]] = [
    *((table, {}) for table in ROWS if table not in ONLY_ONE),
    *(("reminder", columns | {"state": state}) for state, columns in STATES.items()),
    *(("reminder", {"channel": channel}) for channel in CHANNELS),
    ("reminder", {"step": 0, "channel": "email"}),
    ("reminder", {"step": 20}),
    ("reminder", {"deferred_for": "x"}),
    ("reminder", {"deferred_for": "x", "state": "held"}),
    ("reminder", {"expires_at": VISIT}),
    *(("reminder", {"channel": "email", "turned_down_from": channel}) for channel in ("sms", "call")),
    *(("attempt", {"channel": channel}) for channel in CHANNELS),
    *(("attempt", {"state": state}) for state in ("sending", "in_doubt", "accepted")),
    *(("attempt", {"state": state, "ended_at": NOW})
      for state in ("delivered", "undelivered", "cancelled", "failed", "unknown", "not_contacted")),
    ("attempt", {"channel": "email", "address_country": None, "address_type": None}),
    ("attempt", {"channel": "email", "address_type": "premium_rate"}),
    ("attempt", {"deadline_at": NOW + 10 * MINUTE}),
    ("attempt", {"book_read_at": NOW - 10 * MINUTE}),
    ("attempt", {"zone": "Pacific/Kiritimati", "local_day": TODAY + DAY}),
    ("attempt", {"is_rebuilt": True, "state": "accepted"}),
    ("found_contact", {"channel": "call"}),
    ("recovery", SETTLED),
    ("recovery", SETTLED | {"taken_at": NOW + 10 * MINUTE}),
    ("address_cap", {"contact_count": 0}),
    ("address_cap", {"contact_count": 2, "period": "week"}),
    ("address_gap", {"previous_contact_at": None}),
    ("address_gap", {"last_contact_at": None}),
    ("daily_ceiling", {"contact_count": 0}),
    ("daily_ceiling", {"contact_count": 2}),
    *(("suppression", {"channel": channel}) for channel in ("*", *CHANNELS)),
    ("suppression", {"reason": "bad_address"}),
    *(("verdict", {"disposition": disposition}) for disposition in (
        "ready", "deferred", "held", "expired", "superseded", "suppressed", "cancelled",
    )),
    *(("volume", {"channel": channel}) for channel in CHANNELS),
    *(("wording_line", {"channel": channel}) for channel in CHANNELS),
    *(("cycle", {"run_kind": kind}) for kind in ("scheduled", "manual", "backfill")),
    ("cycle", {"is_good": True, "judged_at": NOW}),
    ("cycle", {"is_good": True, "run_kind": "backfill"}),
    *(("hold", {"scope": "channel", "scope_value": channel}) for channel in CHANNELS),
    ("hold", {"scope": "account", "scope_value": "vet"}),
    ("hold", {"scope": "book", "scope_value": "*"}),
    ("hold", {"scope": "cycle", "scope_value": "2026-02-11 14:00Z"}),
    *(("hold", GROUP | {"age": age}) for age in ("fresh", "to 1 hour", "to 6 hours", "to 1 day", "older")),
    ("hold", {"released_at": NOW, "released_by": "Ana"}),
    *(("cadence_step", {"channel": channel}) for channel in CHANNELS),
    ("cadence_step", {"step": 20, "lead": 30 * DAY, "useful_until": timedelta(0), "wait": 30 * DAY}),
    ("cadence_step", {"wait": timedelta(0)}),
    ("account_policy", {"office_days": [7], "phone_gap": MINUTE, "email_gap": MINUTE}),
    ("account_policy", hours(office_opens="6:00", office_closes="9:01")),
    ("account_policy", hours(office_opens="19:59", office_closes="23:59")),
    ("account_wording", {"words": "x" * 500}),
    *(("account_wording", {"language": language}) for language in ("en", "es", "ja")),
    ("account_wording", {"words": "STOP is a word in an email", "channel": "email", "line": "intro"}),
]  # fmt: skip

# The columns of each key, one of which has another value in a row that is another.
KEYS: list[tuple[str, str, Columns]] = [
    ("account_policy", "account_policy_pkey", {"account_id": "zoo"}),
    ("account_seen", "account_seen_pkey", {"account_id": "zoo"}),
    ("account_wording", "account_wording_pkey", {
        "account_id": "zoo", "language": "es", "channel": "call", "line": "more",
    }),
    ("address_cap", "address_cap_pkey", {"address_hash": b"\x09", "period": "week", "starts_on": TODAY + DAY}),
    ("address_gap", "address_gap_pkey", {"address_hash": b"\x09"}),
    ("cadence_step", "cadence_step_pkey", {"account_id": "zoo", "step": 2}),
    ("ceiling_in_all", "ceiling_in_all_pkey", {"channel": "telex"}),
    ("contact_guard", "contacted_once", {
        "account_id": "zoo", "address_hash": b"\x09", "slot_at": VISIT + HOUR, "step": 1, "is_uncontacted": True,
    }),
    ("contact_member", "contact_member_pkey", {"contact_id": 2, "reminder_id": 2}),
    ("cycle", "cycle_pkey", {"logical_date": NOW + HOUR}),
    ("daily_ceiling", "daily_ceiling_pkey", {"account_id": "zoo", "channel": "call", "day": TODAY + DAY}),
    ("found_contact", "found_contact_pkey", {"channel": "call", "provider_id": "SM2"}),
    ("guard_definition", "guard_definition_pkey", {"name": "another"}),
    ("hold", "one_hold_for_a_scope", {"scope": "account", "released_at": NOW}),
    ("permitted_country", "permitted_country_pkey", {"country": "CH"}),
    ("provider_event", "provider_event_pkey", {"provider_id": "SM2", "provider_status": "delivered"}),
    ("reminder", "reminder_once", {
        "account_id": "zoo", "appointment_id": "another", "slot_at": VISIT + HOUR, "step": 3,
    }),
    ("recovery", "one_open_recovery", SETTLED),
    ("schema_migration", "schema_migration_pkey", {"version": 1000}),
    ("suppression", "suppression_pkey", {"address_hash": b"\x09", "channel": "sms"}),
    ("transition", "transition_pkey", {
        "from_state": "unknown", "to_state": "failed", "role_name": "reminders_analyst",
    }),
    ("verdict", "verdict_pkey", {"verdict": "newer"}),
    ("volume", "volume_pkey", {"account_id": "zoo", "channel": "call", "hour_at": NOW + HOUR}),
    ("wording_line", "wording_line_pkey", {"channel": "call", "line": "newer"}),
    ("attempt", "contact_made_once", {"contact_id": 2, "state": "not_contacted"}),
    ("attempt", "provider_id_once", {"channel": "email", "provider_id": None}),
    ("attempt", "one_open_call", {"address_hash": b"\x09", "channel": "sms", "state": "unknown"}),
]  # fmt: skip
