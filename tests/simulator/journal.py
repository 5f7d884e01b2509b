"""The log of what reached a phone or a mailbox. Written before any answer is sent; nothing is ever removed."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part of an email that a person sees as a file. `text` is the content of a calendar part, else empty."""

    name: str
    content_type: str
    size: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that a person noticed: a phone that rang (`call`), a text (`sms`), an email in one mailbox (`email`).

    `at` is ISO 8601 in UTC. `body` is the text of a message, the text part of an email, or the TwiML of a call (empty
    when the call has a URL instead, in `url`). `account` is the account SID, or the SMTP login, which may be empty.
    """

    at: str
    channel: str
    to: str
    sender: str
    body: str
    sid: str
    account: str
    subject: str = ""
    url: str = ""
    message_id: str = ""
    attachments: tuple[Attachment, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """The event as GET /_log and the log file show it; `sender` is called `from` and `at` is called `time`."""
        fields = asdict(self)
        return {"time": fields.pop("at"), "from": fields.pop("sender"), **fields}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Event:
        """The inverse of `as_json`."""
        fields = dict(fields)
        attachments = tuple(Attachment(**part) for part in fields.pop("attachments"))
        return cls(at=fields.pop("time"), sender=fields.pop("from"), attachments=attachments, **fields)


class Journal:
    """The events in memory and, when a path is given, one JSON object a line in a file that outlives the process."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.events: list[Event] = []
        self._open_calls: Counter[str] = Counter()
        self._most_calls: Counter[str] = Counter()
        if path is not None and path.exists():
            self._read(path)

    def _read(self, path: Path) -> None:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                # A process that was killed may have left half a line; what it describes was then never answered.
                if line.endswith("\n"):
                    event = Event.from_json(json.loads(line))
                    self.events.append(event)
                    if event.channel == "call":
                        self._most_calls[event.to] = max(1, self._most_calls[event.to])

    def record(self, event: Event) -> None:
        """Append an event; a call counts as open at its number until `hung_up`."""
        self.events.append(event)
        if event.channel == "call":
            self._open_calls[event.to] += 1
            self._most_calls[event.to] = max(self._most_calls[event.to], self._open_calls[event.to])
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(event.as_json(), ensure_ascii=False) + "\n")

    def hung_up(self, number: str) -> None:
        """A call at `number` that had rung is over."""
        self._open_calls[number] -= 1

    def open_calls(self, number: str) -> int:
        """How many calls are ringing or being talked on at `number` now."""
        return self._open_calls[number]

    def select(self, channel: str = "", to: str = "") -> list[Event]:
        """The events, oldest first, of one channel and one address where given."""
        return [event for event in self.events if channel in ("", event.channel) and to in ("", event.to)]

    def summary(self) -> dict[str, Any]:
        """Counts: in all, by channel, and for each number and mailbox, with the most calls that rang there at once."""
        numbers: dict[str, dict[str, int]] = {}
        mailboxes: dict[str, dict[str, int]] = {}
        for event in self.events:
            if event.channel == "email":
                mailbox = mailboxes.setdefault(event.to, {"emails": 0})
                mailbox["emails"] += 1
                continue
            number = numbers.setdefault(event.to, {"calls": 0, "texts": 0})
            number["calls" if event.channel == "call" else "texts"] += 1
        for to, number in numbers.items():
            number["max_simultaneous_calls"] = self._most_calls[to]
            number["open_calls"] = self._open_calls[to]
        return {
            "total": len(self.events),
            "by_channel": dict(Counter(event.channel for event in self.events)),
            "max_simultaneous_calls": max(self._most_calls.values(), default=0),
            "numbers": numbers,
            "mailboxes": mailboxes,
        }

    def clear(self) -> None:
        """Forget the events in memory. The file stays as it is."""
        self.events.clear()
        self._open_calls.clear()
        self._most_calls.clear()
