"""The lies that a test has ordered, each used up as it is told."""

from __future__ import annotations

from dataclasses import dataclass

CREATE_FAULTS = frozenset(
    {
        "accept_then_500",
        "accept_then_hang",
        "accept_then_reset",
        "accept_then_truncate",
        "429",
        "refuse_503_without_accepting",
    }
)
CALLBACK_FAULTS = frozenset({"repeat_callbacks", "reorder_callbacks"})
LIST_FAULTS = frozenset({"lists_late"})
RECIPIENT_FAULTS = frozenset({"reject_550", "reject_451"})
DATA_FAULTS = frozenset({"drop_after_dot", "hang_after_dot"})

_PHONE_FAULTS = CREATE_FAULTS | CALLBACK_FAULTS | LIST_FAULTS
_BY_CHANNEL = {"sms": _PHONE_FAULTS, "call": _PHONE_FAULTS, "email": RECIPIENT_FAULTS | DATA_FAULTS}


def is_error_code(fault: str) -> bool:
    """Whether a fault is one of Twilio's five-digit error codes."""
    return len(fault) == 5 and fault.isascii() and fault.isdigit()


@dataclass(slots=True)
class Fault:
    """A lie about one channel, told `count` more times, to one destination where `to` is given."""

    channel: str
    name: str
    count: int
    to: str = ""


class Faults:
    """The faults in force, oldest first."""

    def __init__(self) -> None:
        self.ordered: list[Fault] = []

    def order(self, channel: str, name: str, count: int = 1, to: str = "") -> Fault:
        """Add a fault. Raises ValueError, saying what there is, for a channel or a fault that does not exist."""
        if channel not in _BY_CHANNEL:
            raise ValueError(f"channel must be one of {sorted(_BY_CHANNEL)}")
        if name not in _BY_CHANNEL[channel] and not (channel != "email" and is_error_code(name)):
            raise ValueError(f"fault for {channel} must be one of {sorted(_BY_CHANNEL[channel])} or an error code")
        if count < 1:
            raise ValueError("count must be 1 or more")
        fault = Fault(channel, name, count, to)
        self.ordered.append(fault)
        return fault

    def take(self, channel: str, names: frozenset[str], to: str = "", *, codes: bool = False) -> str:
        """Use up one telling of the first fault that fits, and name it; empty when there is none.

        With `codes` Twilio's error codes fit too.
        """
        for fault in self.ordered:
            fits = fault.name in names or (codes and is_error_code(fault.name))
            if fault.channel == channel and fits and fault.to in ("", to):
                fault.count -= 1
                if not fault.count:
                    self.ordered.remove(fault)
                return fault.name
        return ""

    def clear(self) -> None:
        """Tell the truth again."""
        self.ordered.clear()
