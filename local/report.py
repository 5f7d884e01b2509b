"""What `make run` shows: a line for each stage, warnings, and the table of the first cycle."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, cast

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from local.airflow import Run, TaskState

CHANNELS = ("email", "sms", "call")
COLOURS = {"success": "green", "failed": "red", "upstream_failed": "red", "skipped": "yellow"}


@dataclass
class Stage:
    """A stage that is under way; `note` is what its line adds at the end."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class Reached:
    """What the simulator's own log says: how many emails, texts and calls arrived, and at how many addresses."""

    contacts: Mapping[str, int]
    addresses: Mapping[str, int]


class UntilItIsGone:
    """Writes to `file` for as long as that works: a terminal that was closed keeps nobody from stopping the parts."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def standard_output() -> Console:
    return Console(file=cast(IO[str], UntilItIsGone(sys.stdout)), highlight=False)


@dataclass
class Screen:
    """Writes to one terminal, or to a file in plain lines."""

    console: Console = field(default_factory=standard_output)

    @contextmanager
    def stage(self, title: str) -> Iterator[Stage]:
        """Shows that `title` is under way, then that it is done or has failed, and how long it took in seconds."""
        stage, started = Stage(), time.monotonic()
        try:
            with self.console.status(f"{title} ..."):
                yield stage
        except BaseException:
            self.console.print(f"[red]✗[/] {title} [dim]{time.monotonic() - started:.1f} s[/]")
            raise
        note = f": {stage.note}" if stage.note else ""
        self.console.print(f"[green]✓[/] {title}{note} [dim]{time.monotonic() - started:.1f} s[/]")

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def loud(self, title: str, text: str) -> None:
        self.console.print(Panel(Text(text), title=f"[bold]{title}[/]", border_style="bold red", padding=(1, 2)))

    def first_cycle(
        self,
        run: Run,
        tasks: Sequence[TaskState],
        counts: Sequence[tuple[str, str, int]],
        reached: Reached | None,
    ) -> None:
        """The table of the first cycle: its tasks, the reminders by channel and state, and who was reached."""
        self.console.print(f"\nThe first cycle, {run.key:%Y-%m-%d %H:%M} UTC: {coloured(run.state)}")
        table = Table()
        table.add_column("task")
        table.add_column("state")
        table.add_column("seconds", justify="right")
        for task in tasks:
            times = f" x {task.instances}" if task.instances > 1 else ""
            seconds = "" if task.seconds is None else f"{task.seconds:.1f}"
            table.add_row(task.task_id + times, coloured(task.state), seconds)
        self.console.print(table)
        self.console.print(self._channels(counts, reached))

    def _channels(self, counts: Sequence[tuple[str, str, int]], reached: Reached | None) -> Table:
        table = Table()
        table.add_column("channel", no_wrap=True)
        table.add_column("reminders in the ledger")
        if reached is not None:
            table.add_column("arrived", justify="right")
            table.add_column("addresses", justify="right")
        for channel in CHANNELS:
            states = ", ".join(f"{number} {state}" for of, state, number in counts if of == channel)
            row = [channel, states or "none"]
            if reached is not None:
                row += [str(reached.contacts.get(channel, 0)), str(reached.addresses.get(channel, 0))]
            table.add_row(*row)
        return table


def coloured(state: str) -> str:
    """A state in its colour, as rich's markup."""
    colour = COLOURS.get(state)
    return f"[{colour}]{state}[/]" if colour else state


def reached_of(summary: Mapping[str, Any]) -> Reached:
    """What the simulator's summary says, by channel of ours."""
    numbers = summary["numbers"].values()
    return Reached(
        {channel: int(summary["by_channel"].get(channel, 0)) for channel in CHANNELS},
        {
            "email": len(summary["mailboxes"]),
            "sms": sum(1 for number in numbers if number["texts"]),
            "call": sum(1 for number in numbers if number["calls"]),
        },
    )


def missing_channels(before: Reached, after: Reached) -> list[str]:
    """The channels on which nothing has arrived between the two."""
    return [channel for channel in CHANNELS if after.contacts[channel] <= before.contacts[channel]]
