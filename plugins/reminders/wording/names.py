"""Names as they may be shown, spoken and sent: cleaned, cut, and by first name where a phone may be shared."""

from __future__ import annotations

import re
import unicodedata

LONGEST_PERSON = 40
LONGEST_ACCOUNT = 60
LONGEST_PHONE = 24
LONGEST_LOCATION = 120

_JOINERS = "\u200c\u200d"  # Persian and Indic names are spelled with them
_MARKUP = re.compile(r"<[^<>]*>|[<>{}\[\]\\|`^~]")
_NOT_IN_A_PERSONS_NAME = re.compile(r"[$#*_=@/:;\"!?%&+()0-9]")
_SPACE = re.compile(r"\s+")
_TITLES = frozenset(("mr", "mrs", "ms", "miss", "mx", "dr", "prof", "sr", "sra", "srta", "don", "doña", "dra"))
_NOT_SPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af]")
_LONGEST_UNSPACED_GIVEN_NAME = 2


def clean(text: str | None, longest: int) -> str:
    """One line of at most `longest` characters: without control or bidirectional marks, markup and braces."""
    # A name of ten thousand characters is not worth normalising whole.
    known = unicodedata.normalize("NFC", (text or "")[: longest * 8])
    kept = "".join(" " if _is_break(c) else c for c in known if c in _JOINERS or _is_break(c) or _is_shown(c))
    line = _SPACE.sub(" ", _MARKUP.sub(" ", kept)).strip(" " + _JOINERS)
    return cut(line, longest)


def cut(text: str, longest: int) -> str:
    """`text`, or its first `longest` characters ending at a word where one ends near, without half a character."""
    if len(text) <= longest:
        return text
    head = text[:longest]
    if unicodedata.combining(text[longest]):
        head = head.rstrip("".join(c for c in set(head) if unicodedata.combining(c)))[:-1]
    if not text[longest].isspace() and head.rfind(" ") >= longest // 2:
        head = head[: head.rfind(" ")]
    return head.rstrip(" ,;:-")


def first_name(full_name: str | None) -> str:
    """The name by which a person is called on a shared phone, at most 40 characters, or empty.

    Titles are passed over, and "Smith, Ana" is Ana. In scripts that put the family name first the last word is the
    given name; a whole name written without a space cannot be divided, so nobody is named rather than everybody.
    """
    name = clean(full_name, LONGEST_PERSON * 4)
    family, comma, given = name.partition(",")
    name = given if comma and _words(given) else family
    words = _words(name)
    while len(words) > 1 and words[0].rstrip(".").casefold() in _TITLES:
        words = words[1:]
    if not words:
        return ""
    if _NOT_SPACED.search(words[0]):
        if len(words) > 1:
            return cut(words[-1], LONGEST_PERSON)
        return words[0] if len(words[0]) <= _LONGEST_UNSPACED_GIVEN_NAME else ""
    return cut(words[0].rstrip("."), LONGEST_PERSON)


def _words(name: str) -> list[str]:
    # "evil.example" in a name would become a link on the phone that shows it.
    return [word for word in _NOT_IN_A_PERSONS_NAME.sub(" ", name).replace(".", ". ").split() if word.strip(".-'’")]


def _is_break(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in ("Cc", "Zl", "Zp")


def _is_shown(character: str) -> bool:
    return unicodedata.category(character) not in ("Cf", "Cs", "Co", "Cn")
