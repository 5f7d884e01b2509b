"""What the protocol insists on. Without one of these it breaks a property (variants.py says which, and how)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    intent_comes_first: bool = True
    guard_is_unique: bool = True
    guard_outlasts_doubt: bool = True
    line_is_single: bool = True
    doubt_keeps_the_line: bool = True
    claim_is_current: bool = True
    claim_ends: bool = True
    claim_is_more_than_a_number: bool = True
    intent_is_in_what_was_checked: bool = True
    numbers_are_never_given_again: bool = True
    hold_is_checked_last: bool = True
    deadline_is_checked_last: bool = True
    last_check_is_at_the_socket: bool = True
    lost_is_doubt: bool = True
    lease_over_is_doubt: bool = True
    doubt_is_never_tried_again: bool = True
    empty_list_proves_nothing: bool = True
    match_is_nobody_elses: bool = True
    match_has_no_rival: bool = True
    list_proves_nothing_of_before: bool = True
    list_is_for_what_was_checked: bool = True
    callback_goes_by_reference: bool = True
    evidence_only_advances: bool = True
    only_sending_is_given_back: bool = True
    only_pending_expires: bool = True
    doubt_ends: bool = True
    silence_ends: bool = True
    cancelled_by_the_providers_word: bool = True
    mark_is_raised_before_sending: bool = True
    mark_is_compared: bool = True
    checked_is_what_was_compared: bool = True
    recovery_waits: bool = True
    recovery_reads_the_list: bool = True
    recovery_doubts_email: bool = True
    recovery_minds_the_expired: bool = True
    release_waits_for_recovery: bool = True
