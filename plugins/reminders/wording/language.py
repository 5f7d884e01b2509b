"""Templates by channel and locale, and dates and times as a locale writes them in a client's zone."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from string import Template
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_skeleton, format_time, get_timezone_name

LANGUAGES = ("en", "es", "ja")
PLACEHOLDERS = frozenset(
    ("account", "name", "names", "visits", "date", "time", "zone", "location", "phone", "contact", "count")
)
# language -> channel -> line -> words; the table reminders.account_wording refuses what could not be sent as meant.
Overrides = Mapping[str, Mapping[str, Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Language:
    """A locale with the templates of its language: `tables[channel][line]`."""

    locale: Locale
    tables: Mapping[str, Mapping[str, str]]

    def line(self, channel: str, wanted: str, overrides: Overrides | None = None, /, **values: str) -> str:
        """The line `wanted` of `channel` with `values` filled in; a word without a value disappears.

        Values are put in once and never read as templates, so that "$phone" or "{0}" in a name stays text.
        """
        own = (overrides or {}).get(self.locale.language, {}).get(channel, {}).get(wanted)
        template = self.tables[channel][wanted] if own is None else own
        return Template(template).safe_substitute(dict.fromkeys(PLACEHOLDERS, "") | values)


def language(preference: str) -> Language:
    """The first locale of `preference` ("es-MX", or several: "fr-CA, es") that we can write, else English.

    A region is kept for its dates when it is known ("es-MX"), and dropped when not ("es-XX" is "es").
    """
    for tag in re.split(r"[,;\s]+", preference or "")[:8]:
        locale = _known(tag[:35])
        if locale is not None:
            return Language(locale, _tables(locale.language, str(locale)))
    return Language(Locale("en"), _tables("en", "en"))


def full_date(locale: Locale, moment: datetime, zone: str) -> str:
    """The date in `zone` in full, for email: "Friday, November 27, 2026"."""
    return _spaced(format_date(moment.astimezone(ZoneInfo(zone)), "full", locale=locale))


def short_date(locale: Locale, moment: datetime, zone: str) -> str:
    """The weekday and date in `zone` in few characters, for a text: "Fri, Nov 27"."""
    return _spaced(format_skeleton("MMMEd", moment.astimezone(ZoneInfo(zone)), locale=locale))


def spoken_date(locale: Locale, moment: datetime, zone: str, pattern: str) -> str:
    """The date in `zone` by a CLDR `pattern`, for a call: "Friday, November 27"."""
    return _spaced(format_date(moment.astimezone(ZoneInfo(zone)), pattern, locale=locale))


def clock_time(locale: Locale, moment: datetime, zone: str) -> str:
    """The time in `zone` to the minute: "3:30 PM"."""
    return _spaced(format_time(moment.astimezone(ZoneInfo(zone)), "short", locale=locale))


def zone_name(locale: Locale, moment: datetime, zone: str) -> str:
    """The name of the zone at that moment: "Eastern Standard Time"."""
    return _spaced(get_timezone_name(moment.astimezone(ZoneInfo(zone)), locale=locale))


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _known(tag: str) -> Locale | None:
    parts = re.split(r"[-_]", tag.partition(".")[0])
    if parts[0].lower() not in LANGUAGES:
        return None
    try:
        return Locale.parse("_".join(parts))
    except (ValueError, UnknownLocaleError, TypeError):
        return Locale(parts[0].lower())


@lru_cache(maxsize=256)
def _tables(code: str, locale: str) -> Mapping[str, Mapping[str, str]]:
    """The tables of a language, with its lines for `locale` (a sub-table, "call.en_GB") laid over them."""
    read = tomllib.loads(Path(__file__).with_name(f"{code}.toml").read_text(encoding="utf-8"))
    return {
        channel: {name: line for name, line in lines.items() if isinstance(line, str)} | lines.get(locale, {})
        for channel, lines in read.items()
    }
