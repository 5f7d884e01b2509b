"""The booking database, which is read and never written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from reminders.errors import BookError
from reminders.store.statements import statement

CHUNK = 2000


def read_book(
    connection: psycopg.Connection[Any], from_at: datetime, until_at: datetime, appointment_ids: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield appointments that start in [from_at, until_at) or are named, each with its client's and account's columns.

    Rows stream through a server-side cursor, so that memory does not grow with the book. Raises `BookError` when a
    table or column of the agreed schema is missing or may not be read.
    """
    connection.autocommit = False
    try:
        with connection.transaction(), connection.cursor(name="book", row_factory=dict_row) as cursor:
            cursor.itersize = CHUNK
            cursor.execute(
                statement("read_book"),
                {"from_at": from_at, "until_at": until_at, "appointment_ids": list(appointment_ids)},
            )
            yield from cursor
    except (
        psycopg.errors.UndefinedTable,
        psycopg.errors.UndefinedColumn,
        psycopg.errors.InsufficientPrivilege,
    ) as error:
        raise BookError(f"booking_db: {error.diag.message_primary}; see the README for the agreed schema") from error
    except psycopg.Error as error:
        # Its own words may quote a row.
        raise BookError(f"booking_db: reading the book failed ({type(error).__name__})") from None
