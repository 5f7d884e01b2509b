"""What clients read and hear, as tables of contacts and the words that must or must not be in them."""

from __future__ import annotations

import re
import tomllib
import unicodedata
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reminders import wording
from reminders.model import AccountId, AppointmentId, AttemptId, Channel, Contact, Visit
from reminders.wording import gsm
from reminders.wording.language import language
from reminders.wording.names import clean, first_name

FRIDAY_NOON_IN_UTC = datetime(2026, 11, 27, 12, tzinfo=UTC)
NEW_YORK, MADRID, TOKYO = "America/New_York", "Europe/Madrid", "Asia/Tokyo"


def visit(name: str = "Ana Pérez", zone: str = NEW_YORK, starts_at: datetime = FRIDAY_NOON_IN_UTC) -> Visit:
    return Visit(AppointmentId("A1"), name, starts_at, starts_at + timedelta(minutes=30), zone, "Oncology, room 4")


def contact(*visits: Visit, locale: str = "en-US", account: str = "Dr. Smith", phone: str = "+12125550100") -> Contact:
    return Contact(
        attempt_id=AttemptId(1),
        reference="ref-1",
        channel=Channel.SMS,
        address="+12125550123",
        account_id=AccountId("smith"),
        account_name=account,
        account_phone=phone,
        account_email="office@smith.example",
        locale=locale,
        visits=visits or (visit(),),
        expires_at=FRIDAY_NOON_IN_UTC,
    )


def everything_said(of: Contact, overrides: wording.Overrides | None = None) -> list[str]:
    mail, gone = wording.email(of, overrides), wording.email(replace(of, is_cancellation=True), overrides)
    return [
        wording.sms(of, overrides),
        wording.call(of, overrides),
        *(part for words in (mail, gone) for part in (words.subject, words.text, words.html, words.summary)),
    ]


@pytest.mark.parametrize(
    ("locale", "zone", "said"),
    [
        ("en-US", NEW_YORK, "Dr. Smith: appointment reminder for Ana, Fri, Nov 27, 7:00 AM. Questions? Call"),
        ("en-GB", "Europe/London", "Dr. Smith: appointment reminder for Ana, Fri 27 Nov, 12:00. Questions? Call"),
        ("es-ES", MADRID, "Dr. Smith: recordatorio de cita para Ana, vie, 27 nov, 13:00. Preguntas: llame al"),
        ("ja", TOKYO, "Dr. Smith:ご予約のお知らせ Ana様 11月27日(金) 21:00。お電話"),
    ],
)  # fmt: skip
def test_a_text_says_who_calls_for_whom_when_in_the_clients_zone_and_the_offices_phone(
    locale: str, zone: str, said: str
) -> None:
    assert wording.sms(contact(visit(zone=zone), locale=locale)) == f"{said} +1 212-555-0100"


@pytest.mark.parametrize(
    ("preference", "spoken"),
    [
        ("en", "en"), ("en_GB", "en_GB"), ("es-MX", "es_MX"), ("ES", "es"), ("es-XX", "es"), ("es-419", "es_419"),
        ("ja_JP.UTF-8", "ja_JP"), ("fr-CA, es", "es"), ("xx ja", "ja"), ("fr", "en"), ("", "en"), ("es;DROP", "es"),
        ("../../etc/passwd", "en"), ("en" * 5_000, "en"), ("\x00", "en"),
    ],
)  # fmt: skip
def test_a_locale_falls_back_by_language_then_to_the_next_and_to_english(preference: str, spoken: str) -> None:
    assert str(language(preference).locale) == spoken


@pytest.mark.parametrize(
    ("full", "first"),
    [
        ("Ana Pérez", "Ana"), ("Dr. Ana Pérez", "Ana"), ("Pérez, Ana", "Ana"), ("Smith,", "Smith"), ("Dr.", "Dr"),
        ("Anne-Marie O'Neil", "Anne-Marie"), ("山田 太郎", "太郎"), ("山田　太郎", "太郎"), ("山田太郎", ""),
        ("太郎", "太郎"), ("", ""), (None, ""), ("  \n\t ", ""), ("Ana\nBcc: x@y.example", "Ana"),
        ("<b>Ana</b>", "Ana"), ("{Ana}", "Ana"), ("\u202eanA\u202c Smith", "anA"), ("evil.example/x Ana", "evil"),
        ("$phone", "phone"), ("12345", ""), ("B" * 10_000, "B" * 40), ("\ud800Ana", "Ana"), ("😀", "😀"),
    ],
)  # fmt: skip
def test_people_are_called_by_a_clean_first_name(full: str | None, first: str) -> None:
    assert first_name(full) == first


HOSTILE = [
    "Ana\r\nBcc: victim@example.org",
    "<script>alert(1)</script>",
    '"><Dial>+19005550100</Dial>',
    "{0.__class__} %s $phone ${account} {{7*7}}",
    "\u202e\u2066desrever\u2069\u200f",
    "Z" + "\u0301" * 10_000,
    "N" * 10_000,
    "\x00\x07\x1b[31m",
    "]]>&amp;<![CDATA[",
    "\ud800\udfff\ufffe",
]


@pytest.mark.parametrize("locale", ["en", "es", "ja"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_one_harmless_line(name: str, locale: str) -> None:
    of = contact(visit(name), locale=locale, account=name)

    text, call, *mail = everything_said(of)

    assert "\n" not in text and len(text) <= wording.MOST_SMS_CHARACTERS
    verbs = {element.tag for element in ET.fromstring(call).iter()}
    assert verbs == {"Response", "Pause", "Say"}
    assert "<script" not in "".join(mail) and "<Dial" not in "".join(mail)
    assert all("\n" not in part and len(part) < 200 for part in (mail[0], mail[3], mail[4], mail[7]))
    for part in (text, call, *mail):
        part.encode("utf-8")
        assert not [c for c in part if unicodedata.category(c) in ("Cf", "Cs", "Co") or (c < " " and c != "\n")]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(name=st.text(max_size=80), account=st.text(max_size=80), locale=st.sampled_from(["en", "es-MX", "ja", "xx"]))
def test_any_name_makes_a_text_of_one_segment_and_twiml_that_parses(name: str, account: str, locale: str) -> None:
    of = contact(visit(name), locale=locale, account=account)
    text = wording.sms(of)
    wide = gsm.septets(text) is None
    assert gsm.fits_one_segment(text) or wide
    if wide:
        assert gsm.units(text) <= gsm.MOST_UNITS or locale in ("en", "es-MX", "xx")
    ET.fromstring(wording.call(of))


@pytest.mark.parametrize(
    ("text", "septets", "units"),
    [
        ("", 0, 0), ("a" * 160, 160, 160), ("[", 2, 1), ("€", 2, 1), ("ñéàü", 4, 4), ("á", None, 1), ("’", None, 1),
        ("😀", None, 2), ("予約", None, 2),
    ],
)  # fmt: skip
def test_lengths_are_counted_as_carriers_count(text: str, septets: int | None, units: int) -> None:
    assert (gsm.septets(text), gsm.units(text)) == (septets, units)


@pytest.mark.parametrize(
    ("text", "fits"),
    [("a" * 160, True), ("a" * 161, False), ("[" * 80, True), ("[" * 80 + "a", False),
     ("予" * 70, True), ("予" * 71, False), ("😀" * 35, True), ("😀" * 36, False)],
)  # fmt: skip
def test_a_segment_ends_at_160_septets_or_70_units(text: str, fits: bool) -> None:
    assert gsm.fits_one_segment(text) is fits


@pytest.mark.parametrize(
    ("name", "account", "locale", "kept", "gone"),
    [
        ("Ana", "Dr. Smith’s “Smile” – Clinic", "en", ["Ana", "Dr. Smith's \"Smile\" - Clinic"], ["’"]),
        ("María", "Clínica Sol", "es", ["Maria", "Clinica Sol", "sab"], ["í", "á"]),
        ("Bartholomew" * 4, "Dr. Smith", "en", ["Bartholomew", "Dr. Smith:"], []),
        ("Bartholomew" * 4, "The Very Long Dental Practice Of Northern Manhattan Associates", "en",
         ["Bartholomewb"[:11], "The Very Long Dental"], ["BartholomewBartholomewB"]),
        ("Łukasz", "The Dental Practice", "en", ["The Dental"], ["Łukasz"]),
        ("太郎", "スミス歯科クリニック", "ja", ["太郎様", "スミス歯科クリニック"], []),
        ("太郎", "あ" * 60, "ja", ["太郎様", "あ" * 14], ["あ" * 28]),
    ],
)  # fmt: skip
def test_one_segment_is_reached_by_folding_then_shortening_then_dropping_the_name(
    name: str, account: str, locale: str, kept: list[str], gone: list[str]
) -> None:
    saturday = FRIDAY_NOON_IN_UTC + timedelta(days=1)
    text = wording.sms(contact(visit(name, starts_at=saturday), account=account, locale=locale))
    assert gsm.fits_one_segment(text), text
    assert [word for word in kept if word not in text] == []
    assert [word for word in gone if word in text] == []
    assert "212-555-0100" in text


@pytest.mark.parametrize("locale", ["en", "es", "ja"])
def test_a_family_at_one_phone_is_named_whole_on_every_channel(locale: str) -> None:
    later = FRIDAY_NOON_IN_UTC + timedelta(hours=2)
    family = (visit("Ana Pérez"), visit("Ben Pérez"), visit("Cleo Pérez", starts_at=later))
    of = contact(*family, locale=locale, account="Pacific Family Practice Of Northern California")
    text, call, mail = wording.sms(of), wording.call(of), wording.email(of)
    for said in (text, call, mail.text, mail.html):
        assert all(name in said for name in ("Ana", "Ben", "Cleo")) and "Pérez" not in said
        assert "9:00" in said


@pytest.mark.parametrize("people", [1, 26])
def test_a_hundred_visits_stay_within_what_the_provider_takes(people: int) -> None:
    names = [f"Xavier{chr(97 + number % people)} Smith" for number in range(100)]
    of = contact(*(visit(name, starts_at=FRIDAY_NOON_IN_UTC + timedelta(hours=n)) for n, name in enumerate(names)))
    text, call = wording.sms(of), wording.call(of)
    assert len(text) <= 1_600 and len(call) <= 4_000
    assert re.search(r"; and \d+ more\. Questions", text)
    assert re.search(r"And \d+ more\.", call)


@pytest.mark.parametrize(
    ("locale", "spoken", "voice"),
    [("en", "en-US", "Polly.Joanna"), ("en-GB", "en-GB", "Polly.Amy"), ("es", "es-MX", "Polly.Mia"),
     ("es-ES", "es-ES", "Polly.Conchita"), ("ja", "ja-JP", "Polly.Mizuki")],
)  # fmt: skip
def test_a_call_is_said_twice_with_a_pause_in_the_locales_voice(locale: str, spoken: str, voice: str) -> None:
    response = ET.fromstring(wording.call(contact(locale=locale)))
    assert [element.tag for element in response] == ["Pause", "Say", "Pause", "Say", "Say"]
    first, second = (element.text or "" for element in (response[1], response[3]))
    assert second.endswith(first) and "Ana" in first and "2 1 2, 5 5 5, 0 1 0 0" in first
    assert {(say.get("language"), say.get("voice")) for say in response.iter("Say")} == {(spoken, voice)}


@pytest.mark.parametrize("name", ["en", "es", "ja"])
def test_no_wording_names_a_place_invites_a_reply_or_uses_an_opt_out_word(name: str) -> None:
    read = tomllib.loads((Path(wording.__file__).with_name(f"{name}.toml")).read_text(encoding="utf-8"))
    lines = [line for table in read.values() for line in table.values() if isinstance(line, str)]
    forbidden = re.compile(
        r"\b(cancel|end|quit|stop|reply|respond\w*|text us|conteste|返信)\b|\$location", re.IGNORECASE
    )
    assert [line for line in lines if forbidden.search(line)] == []
    assert [part for part in everything_said(contact(locale=name)) if "Oncology" in part] == []


@pytest.mark.parametrize("name", ["es", "ja"])
def test_each_language_has_the_lines_of_english_and_no_other(name: str) -> None:
    english, other = (
        {(table, line) for table, lines in language(tag).tables.items() for line in lines} for tag in ("en", name)
    )
    assert {line for line in english if line[1] not in ("en_GB",)} == {line for line in other if line[1] != "es_ES"}


@pytest.mark.parametrize(
    ("phone", "said"), [("", ""), (None, ""), ("ask Sue", "ask Sue"), ("+1 (212) 555-0100", "+1 212-555-0100")]
)
def test_an_office_without_a_usable_number_is_worded_without_an_error(phone: str, said: str) -> None:
    text = wording.sms(contact(phone=phone))
    assert text.endswith(f"7:00 AM. Questions? Call {said}" if said else "7:00 AM.")


def test_nameless_people_and_offices_get_neutral_words() -> None:
    of = contact(visit(""), account="")
    assert wording.sms(of).startswith("Your appointment office: appointment reminder, Fri, Nov 27")
    assert wording.email(of).text.startswith("Hello,\n")


def test_the_night_the_clocks_change_is_told_in_the_clients_time() -> None:
    before, after = datetime(2026, 11, 1, 5, 30, tzinfo=UTC), datetime(2026, 11, 1, 6, 30, tzinfo=UTC)
    said = [wording.email(contact(visit(starts_at=moment))).text for moment in (before, after)]
    assert "1:30 AM (Eastern Daylight Time)" in said[0]
    assert "1:30 AM (Eastern Standard Time)" in said[1]


def test_an_account_can_replace_a_line_and_leave_the_others() -> None:
    own = {"en": {"sms": {"text": "$account here: see $visits"}, "email": {"visit_named": "$name at $location, $time"}}}
    assert wording.sms(contact(), own) == "Dr. Smith here: see for Ana, Fri, Nov 27, 7:00 AM"
    mail = wording.email(contact(), own)
    assert "Ana at Oncology, room 4, 7:00 AM" in mail.text
    assert wording.email(contact(), own).subject == wording.email(contact()).subject
    assert wording.sms(contact(locale="es"), own) == wording.sms(contact(locale="es")), "each language has its own"


def test_words_that_no_line_knows_still_send_and_shows_no_bare_placeholder_of_ours() -> None:
    assert wording.sms(contact(), {"en": {"sms": {"text": "$account: $zone$visits $"}}}).startswith(
        "Dr. Smith: for Ana"
    )


def test_cleaning_twice_changes_nothing() -> None:
    for name in HOSTILE:
        assert clean(clean(name, 40), 40) == clean(name, 40)
        assert replace(visit(), client_name=clean(name, 40)).client_name == clean(name, 40)


def test_an_emails_html_shows_markup_as_text_wherever_it_comes_from() -> None:
    lines = {"intro": "<i>$account</i>", "visit_named": "<b>$name</b>", "signature": '<a href="x">'}
    own = {"en": {"email": lines}}
    page = wording.email(contact(account="Smith & Sons"), own).html
    assert "&lt;i&gt;Smith &amp; Sons&lt;/i&gt;" in page and "&lt;b&gt;Ana" in page
    assert not [tag for tag in ("<i>", "<b>", "<a ") if tag in page]
