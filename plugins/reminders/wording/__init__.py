"""What a client reads and hears, by channel and locale: pure functions of a contact.

No wording of ours names a service, a treatment or a place, asks for an answer, or uses the carriers' opt-out words. An
account can replace single lines (`overrides`: language, channel, line), which may use `$location` in email.
Persons are called by first name only on every channel; a cleaned name can be empty, and then nobody is named.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import phonenumbers
from twilio.twiml.voice_response import VoiceResponse

from reminders.model import Contact, Visit
from reminders.wording import gsm
from reminders.wording.language import (
    Language,
    Overrides,
    clock_time,
    full_date,
    language,
    short_date,
    spoken_date,
    zone_name,
)
from reminders.wording.names import LONGEST_ACCOUNT, LONGEST_LOCATION, LONGEST_PHONE, clean, cut, first_name

__all__ = ["EmailWording", "Overrides", "account_name", "call", "email", "sms"]

MOST_SMS_CHARACTERS = 1_600  # Twilio, Message resource, Body
MOST_TWIML_CHARACTERS = 4_000  # Twilio, Call resource, Twiml
_NAME_LENGTHS = (40, 20, 12)
_ACCOUNT_LENGTHS = (60, 40, 28, 20, 14)


@dataclass(frozen=True, slots=True)
class EmailWording:
    """An email's subject, its body as text and as HTML, the calendar entry's summary, and its language (BCP 47)."""

    subject: str
    text: str
    html: str
    summary: str
    language: str


def account_name(contact: Contact) -> str:
    """The account's name, cleaned, or the locale's words for an office without one."""
    return clean(contact.account_name, LONGEST_ACCOUNT) or language(contact.locale).line("fallback", "account")


def email(contact: Contact, overrides: Overrides | None = None) -> EmailWording:
    """The reminder of all the contact's visits, or the notice of their cancellation, each in its client's zone."""
    subject, intro = ("subject_cancelled", "intro_cancelled") if contact.is_cancellation else ("subject", "intro")
    tongue, account = language(contact.locale), account_name(contact)
    phone = _written_phone(contact.account_phone)
    names = list(dict.fromkeys(filter(None, (first_name(visit.client_name) for visit in contact.visits))))

    def line(wanted: str, /, **values: str) -> str:
        return tongue.line("email", wanted, overrides, account=account, phone=phone, **values)

    def entry(visit: Visit) -> str:
        name = first_name(visit.client_name)
        return line(
            "visit_named" if name else "visit_unnamed",
            name=name,
            date=full_date(tongue.locale, visit.starts_at, visit.zone),
            time=clock_time(tongue.locale, visit.starts_at, visit.zone),
            zone=zone_name(tongue.locale, visit.starts_at, visit.zone),
            location=clean(visit.location, LONGEST_LOCATION),
        )

    first = contact.visits[0]
    greeting = line("greeting_named", names=line("join").join(names)) if names else line("greeting_unnamed")
    entries = [entry(visit) for visit in contact.visits]
    closing = [line("contact")] if phone else []
    closing.append(line("signature"))
    return EmailWording(
        subject=" ".join(line(subject, date=short_date(tongue.locale, first.starts_at, first.zone)).split()),
        text="\n\n".join([greeting, line(intro), "\n".join(f"- {words}" for words in entries), *closing]) + "\n",
        html=_page([greeting, line(intro)], entries, closing, str(tongue.locale).replace("_", "-")),
        summary=" ".join(line("summary").split()),
        language=str(tongue.locale).replace("_", "-"),
    )


def _page(opening: list[str], entries: list[str], closing: list[str], tag: str) -> str:
    def paragraphs(lines: list[str]) -> str:
        return "".join(f"<p>{html.escape(words)}</p>\n" for words in lines)

    items = "".join(f"<li>{html.escape(words)}</li>\n" for words in entries)
    return (
        f'<!DOCTYPE html>\n<html lang="{html.escape(tag)}"><head><meta charset="utf-8"></head><body>\n'
        f"{paragraphs(opening)}<ul>\n{items}</ul>\n{paragraphs(closing)}</body></html>\n"
    )


def sms(contact: Contact, overrides: Overrides | None = None) -> str:
    """The text: who is calling, for whom, when in the client's zone, and the office's phone.

    One segment where the names allow. To get there, in this order: accents that GSM-7 lacks are taken off, first names
    and then the account's name are cut shorter, the first name is dropped. Several people are always named and may
    take more segments; at most 1,600 characters.
    """
    last = ""
    for candidate in _texts(contact, overrides):
        for text in (candidate, gsm.folded(candidate)):
            if gsm.fits_one_segment(text):
                return text
        last = last or candidate
    # No shape fits: whole names in several segments say more than cut ones in as many.
    return _within(MOST_SMS_CHARACTERS, contact, last, lambda count: _text(contact, overrides, 12, 28, count))


def _texts(contact: Contact, overrides: Overrides | None) -> Iterator[str]:
    everybody = len(contact.visits)
    for name_length in _NAME_LENGTHS:
        yield _text(contact, overrides, name_length, _ACCOUNT_LENGTHS[0], everybody)
    for account_length in _ACCOUNT_LENGTHS[1:]:
        yield _text(contact, overrides, _NAME_LENGTHS[-1], account_length, everybody)
    people = {first_name(visit.client_name) for visit in contact.visits}
    # With several people at one phone, times without names would not say whose they are.
    for account_length in _ACCOUNT_LENGTHS if len(people) == 1 else ():
        yield _text(contact, overrides, 0, account_length, everybody)


def _text(contact: Contact, overrides: Overrides | None, name_length: int, account_length: int, count: int) -> str:
    tongue = language(contact.locale)

    def entry(visit: Visit) -> str:
        name = cut(first_name(visit.client_name), name_length) if name_length else ""
        return tongue.line(
            "sms",
            "visit_named" if name else "visit_unnamed",
            overrides,
            name=name,
            date=short_date(tongue.locale, visit.starts_at, visit.zone),
            time=clock_time(tongue.locale, visit.starts_at, visit.zone),
        )

    visits = tongue.line("sms", "join", overrides).join(dict.fromkeys(map(entry, contact.visits[:count])))
    if count < len(contact.visits):
        visits += tongue.line("sms", "more", overrides, count=str(len(contact.visits) - count))
    phone = _written_phone(contact.account_phone)
    text = tongue.line(
        "sms",
        "text",
        overrides,
        account=cut(account_name(contact), account_length),
        visits=visits,
        phone=phone,
        contact=tongue.line("sms", "contact", overrides, phone=phone) if phone else "",
    )
    return " ".join(gsm.plain_punctuation(text).split())


def call(contact: Contact, overrides: Overrides | None = None) -> str:
    """The TwiML of the call: a short pause, the message, and the message once more, so that a voicemail has it whole.

    Language and voice go by locale (Twilio, TwiML Say). At most 4,000 characters; the repetition goes first.
    """
    everybody = len(contact.visits)
    twice = _spoken(contact, overrides, everybody, is_repeated=True)
    if len(twice) <= MOST_TWIML_CHARACTERS:
        return twice
    once = _spoken(contact, overrides, everybody, is_repeated=False)
    return _within(
        MOST_TWIML_CHARACTERS, contact, once, lambda count: _spoken(contact, overrides, count, is_repeated=False)
    )


def _spoken(contact: Contact, overrides: Overrides | None, count: int, is_repeated: bool) -> str:
    tongue = language(contact.locale)
    phone = _spoken_phone(contact.account_phone)

    def line(wanted: str, /, **values: str) -> str:
        return tongue.line("call", wanted, overrides, account=account_name(contact), phone=phone, **values)

    message = [line("greeting"), *dict.fromkeys(_spoken_visit(visit, tongue, line) for visit in contact.visits[:count])]
    if count < len(contact.visits):
        message.append(line("more", count=str(len(contact.visits) - count)))
    if phone:
        message.append(line("contact"))
    words = line("join").join(message)
    response = VoiceResponse()
    speaker = {"language": line("language"), "voice": line("voice")}
    response.pause(length=1)
    response.say(words, **speaker)
    if is_repeated:
        response.pause(length=1)
        response.say(line("join").join([line("again"), words]), **speaker)
    response.say(line("goodbye"), **speaker)
    return str(response)


def _spoken_visit(visit: Visit, tongue: Language, line: Callable[..., str]) -> str:
    name = first_name(visit.client_name)
    return line(
        "visit_named" if name else "visit_unnamed",
        name=name,
        date=spoken_date(tongue.locale, visit.starts_at, visit.zone, line("date")),
        time=clock_time(tongue.locale, visit.starts_at, visit.zone),
    )


def _within(most: int, contact: Contact, whole: str, shorter: Callable[[int], str]) -> str:
    """`whole`, or the wording of as many visits as keep it within `most` characters."""
    text, count = whole, len(contact.visits)
    while len(text) > most and count > 1:
        count -= 1
        text = shorter(count)
    return text


def _written_phone(phone: str) -> str:
    """The office's phone as people write it, or the book's own text, cleaned, when it is no international number."""
    number = _parsed(phone)
    if number is None:
        return clean(phone, LONGEST_PHONE)
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


def _spoken_phone(phone: str) -> str:
    """The office's phone digit by digit, in the groups in which it is written: a voice would read one huge number."""
    number = _parsed(phone)
    written = (
        clean(phone, LONGEST_PHONE)
        if number is None
        else phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
    )
    groups = "".join(character if character.isdigit() else " " for character in written).split()
    return ", ".join(" ".join(group) for group in groups)


def _parsed(phone: str) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(phone or "", None)
    except phonenumbers.NumberParseException:
        return None
