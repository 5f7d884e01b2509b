"""The GSM 7-bit alphabet and the length of a text message in it or in UCS-2.

Source: 3GPP TS 23.038, sections 6.2.1 and 6.2.1.1; Twilio, "What is GSM-7 character encoding?".
"""

from __future__ import annotations

import unicodedata

BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
ESCAPED = frozenset("\f^{}\\[~]|€")
MOST_SEPTETS = 160
MOST_UNITS = 70

_PLAIN = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′´`ʼ＇", "'"),
        **dict.fromkeys("“”„‟″«»＂", '"'),
        **dict.fromkeys("‐‑‒–—―−", "-"),
        **dict.fromkeys("\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f", " "),
        "…": "...",
        "•": "-",
    }
)


def plain_punctuation(text: str) -> str:
    """`text` with typographic quotes, dashes, dots and spaces as their GSM-7 equals; letters stay as they are."""
    return text.translate(_PLAIN)


def folded(text: str) -> str:
    """`text` with accents that GSM-7 lacks taken off (á to a); what has no equal there stays."""

    def fold(character: str) -> str:
        if character in BASIC or character in ESCAPED:
            return character
        base = "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
        return base if base and all(c in BASIC for c in base) else character

    return "".join(map(fold, unicodedata.normalize("NFC", text)))


def septets(text: str) -> int | None:
    """The length of `text` in septets, or None when it needs UCS-2. A character of the escape table takes two."""
    if all(character in BASIC or character in ESCAPED for character in text):
        return len(text) + sum(character in ESCAPED for character in text)
    return None


def units(text: str) -> int:
    """The length of `text` in UCS-2 (UTF-16) code units; a character outside the basic plane takes two."""
    return len(text.encode("utf-16-be", "surrogatepass")) // 2


def fits_one_segment(text: str) -> bool:
    """Whether `text` is one segment: 160 septets, or 70 UCS-2 units."""
    length = septets(text)
    return units(text) <= MOST_UNITS if length is None else length <= MOST_SEPTETS
