"""The operator's command: `python -m reminders.operate holds|doubts|hold|release|drop|turn-down|rehearse`.

It reads the connections `ledger_db_operator` and, to rehearse, `ledger_db`, `booking_db` and the key of the address
hashes, from the same AIRFLOW_CONN_* and AIRFLOW_VAR_* that the tasks read. It prints ids, figures, masked addresses,
and the reasons that people wrote for their holds.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
from tabulate import tabulate

from reminders.addresses import checked_secret
from reminders.cycle.doubts import LIST_SETTLES_IN
from reminders.cycle.rehearse import rehearse
from reminders.errors import ConfigurationError, HoldError, RemindersError
from reminders.store.book import read_book
from reminders.store.holds import Holds, LetGo
from reminders.store.ledger import Ledger
from reminders.store.logins import KEEPALIVES, connection_parameters
from reminders.store.session import Row

SECRET = "AIRFLOW_VAR_REMINDERS_ADDRESS_SECRET"
DOUBTS_OF = timedelta(days=7)
SCOPES = ("all", "channel", "account", "cycle")
AGES = ("fresh", "to 1 hour", "to 6 hours", "to 1 day", "older")


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(prog="python -m reminders.operate", description="Stop contacts, and let them go.")
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("holds", help="list what is in force")
    actions.add_parser("doubts", help="list the week's contacts of which nobody can tell whether they were made")
    hold = actions.add_parser("hold", help="stop everything, a channel, an account or a cycle, within a second")
    hold.add_argument("scope", choices=SCOPES)
    hold.add_argument("value", nargs="?", default="", help="the channel, the account, or the cycle's logical date")
    hold.add_argument("--why", required=True, type=words, metavar="REASON", help="what people read who find it")
    hold.add_argument("--review", type=hours, default=timedelta(hours=1), metavar="HOURS", help="remind after them (1)")
    for name, what in (
        ("release", "let what was held go out, nearest first, after a canary"),
        ("drop", "end what groups hold, without a contact"),
        ("turn-down", "send what groups hold by email instead, once for a slot"),
    ):
        action = actions.add_parser(name, help=what)
        action.add_argument("hold_ids", nargs="*", type=int, metavar="HOLD", help="as `holds` lists them")
        whose = action.add_mutually_exclusive_group()
        whose.add_argument("--account", type=words, help="all groups of the account")
        whose.add_argument("--every-account", action="store_true", help="all groups of all accounts, as after a night")
        action.add_argument("--step", type=int, help="of these groups only those of this step")
        action.add_argument("--age", choices=AGES, help="of these groups only those of this age")
    for name in ("hold", "release", "drop", "turn-down"):
        actions.choices[name].add_argument("--by", required=True, type=words, metavar="NAME", help="who decides this")
    actions.add_parser("rehearse", help="say what would go out if sending resumed now; sends and changes nothing")
    return command


def words(value: str) -> str:
    """What was said, without the spaces around it; nothing said is no answer."""
    if not value.strip():
        raise argparse.ArgumentTypeError("say it in words")
    return value.strip()


def hours(value: str) -> timedelta:
    """A number of hours above zero and at most a week."""
    span = timedelta(hours=float(value))
    if not timedelta(0) < span <= timedelta(days=7):
        raise argparse.ArgumentTypeError("give hours, above 0 and at most 168")
    return span


def run(arguments: Sequence[str] | None, environment: Mapping[str, str], now: datetime) -> str:
    """Do what the arguments say and return what to print. Raises `RemindersError` when it is refused.

    Only a rehearsal goes by `now`, this machine's clock; all else goes by the ledger's.
    """
    chosen = parser().parse_args(arguments)
    if chosen.action == "rehearse":
        return rehearsed(environment, now)
    with connected("ledger_db_operator", environment) as connection:
        holds = Holds(connection)
        if chosen.action == "holds":
            return listed(holds)
        if chosen.action == "doubts":
            return doubted(holds)
        if chosen.action == "hold":
            return placed(holds, chosen)
        return let_go(holds, chosen)


def connected(connection_id: str, environment: Mapping[str, str]) -> psycopg.Connection[Any]:
    """A connection to close. Raises `ConfigurationError` when it is not configured or does not answer."""
    try:
        return psycopg.connect(**{**KEEPALIVES, **connection_parameters(connection_id, environment)})
    except psycopg.OperationalError as error:
        raise ConfigurationError(
            f"{connection_id} does not answer ({type(error).__name__}): is the server up, are login and password right?"
        ) from None


def rehearsed(environment: Mapping[str, str], now: datetime) -> str:
    """What would go out if sending resumed now, as a table."""
    secret = checked_secret(environment.get(SECRET))
    with connected("ledger_db", environment) as connection, connected("booking_db", environment) as book:
        return str(rehearse(Ledger(connection), partial(read_book, book), now, secret))


def listed(holds: Holds) -> str:
    """The holds in force as a table, or that there is none."""
    now = holds.clock()
    rows = [
        [
            hold["hold_id"],
            f"{hold['scope']} {hold['scope_value']}".rstrip(),
            hold["reminders"],
            moment(hold["first_expires_at"]),
            hold["placed_by"],
            moment(hold["placed_at"]),
            moment(hold["review_at"]) + (" (over)" if hold["review_at"] <= now else ""),
            hold["why"],
        ]
        for hold in holds.in_force()
    ]
    if not rows:
        return "no hold is in force"
    names = ["hold", "stops", "reminders", "first expires", "placed by", "at (UTC)", "review at", "why"]
    table = tabulate(rows, headers=names, tablefmt="simple", disable_numparse=True)
    return "\n".join([table, *(recovering(row) for row in holds.recoveries())])


def recovering(row: Row) -> str:
    """How far the recovery has come that a hold waits for."""
    since = (
        f"hold {row['hold_id']} recovers what the ledger lacks since {moment(row['missing_from'])} UTC ({row['why']}): "
    )
    if row["listed_at"] is None:
        return f"{since}the provider's list is read from {moment(row['begun_at'] + LIST_SETTLES_IN)} UTC on"
    if row["taken_at"] is None:
        knew = f"the provider knew {row['found']} contacts more"
        return f"{since}{knew}, which the next cycle takes over, unless a book is on hold"
    return (
        f"{since}the provider knew {row['found']} contacts more, {row['rebuilt']} of them of reminders that waited; "
        "it can be released"
    )


def doubted(holds: Holds) -> str:
    """The week's contacts in doubt or unknown as a table, or that there is none."""
    rows = [
        [
            row["attempt_id"],
            row["state"],
            row["account_id"],
            row["appointment_id"],
            moment(row["slot_at"]),
            f"{row['step']} {row['channel']}",
            row["address_masked"],
            moment(row["intended_at"]),
            row["reason"],
        ]
        for row in holds.doubts(holds.clock() - DOUBTS_OF)
    ]
    if not rows:
        return "no contact of the last 7 days is in doubt"
    names = ["attempt", "state", "account", "appointment", "starts (UTC)", "step", "address", "at (UTC)", "why"]
    return tabulate(rows, headers=names, tablefmt="simple", disable_numparse=True)


def moment(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}" if at else ""


def placed(holds: Holds, chosen: argparse.Namespace) -> str:
    """Place the hold that was asked for, and say what it stops."""
    if (chosen.scope == "all") != (chosen.value == ""):
        raise HoldError("`hold all` takes no value; `hold channel`, `account` and `cycle` take one")
    value = logical_date(chosen.value) if chosen.scope == "cycle" else chosen.value
    hold_id = holds.place(chosen.scope, value, chosen.by, chosen.why, chosen.review)
    what = "everything" if chosen.scope == "all" else f"{chosen.scope} {value}"
    note = ""
    if chosen.scope == "account" and not holds.knows_account(chosen.value):
        note = f"; nothing of account {chosen.value} was due so far: is its id right?"
    return f"hold {hold_id} stops {what} until a person releases it{note}"


def logical_date(value: str) -> str:
    """A cycle's logical date as the ledger writes it, in UTC. Raises `HoldError` for what is no date with a zone."""
    try:
        date = datetime.fromisoformat(value)
    except ValueError:
        date = None
    if date is None or date.tzinfo is None:
        raise HoldError(f"{value} is no cycle's logical date: write it as 2026-11-24T14:05:00Z, with the zone")
    return date.astimezone(UTC).isoformat()


def let_go(holds: Holds, chosen: argparse.Namespace) -> str:
    """Release the chosen holds, with what the action does to their reminders, and say what comes of those."""
    if chosen.hold_ids and (chosen.account, chosen.every_account, chosen.step, chosen.age) != (None, False, None, None):
        raise HoldError(
            "name the holds by their numbers, or choose groups by --account (or --every-account), --step and --age: "
            "not both"
        )
    hold_ids = chosen.hold_ids or groups(holds, chosen)
    acts: dict[str, Callable[[Sequence[int], str], LetGo]] = {
        "release": holds.release,
        "drop": holds.drop,
        "turn-down": holds.turn_down,
    }
    done = acts[chosen.action](hold_ids, chosen.by)
    ids = ", ".join(str(hold_id) for hold_id in hold_ids)
    if done == LetGo(0, 0):
        return f"released {ids}; {'it' if len(hold_ids) == 1 else 'they'} held no reminder that is still of use"
    going = "1 reminder goes" if done.going == 1 else f"{done.going} reminders go"
    return f"released {ids}: {going} out nearest first, {done.dropped} {'was' if done.dropped == 1 else 'were'} dropped"


def groups(holds: Holds, chosen: argparse.Namespace) -> list[int]:
    """The ids of the groups in force that --account or --every-account, --step and --age choose."""
    if not chosen.account and not chosen.every_account:
        raise HoldError(
            "name the holds by their numbers, or the groups of an account by --account (or --every-account)"
        )
    found = [
        hold["hold_id"]
        for hold in holds.in_force()
        if hold["scope"] == "group"
        and (chosen.every_account or hold["account_id"] == chosen.account)
        and chosen.step in (None, hold["step"])
        and chosen.age in (None, hold["age"])
    ]
    if not found:
        whose = f"account {chosen.account}" if chosen.account else "any account"
        raise HoldError(f"no group of {whose} is held like that: `holds` lists those in force")
    return found


def main() -> int:
    """The command: 0 when done, 1 with one line on stderr when it is refused."""
    try:
        print(run(None, os.environ, datetime.now(UTC)))
    except RemindersError as error:
        print(error, file=sys.stderr)
        return 1
    except psycopg.Error as error:
        print(
            f"the ledger did not finish this ({type(error).__name__}): `holds` shows whether it was done",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
