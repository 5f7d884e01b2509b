"""Email addresses and telephone numbers: one spelling for each, a key that cannot be read back, a mask for people.

Nothing here raises for what a book contains: bad input becomes an `Address` with a problem. Domain and spelling of an
email address follow RFC 5321 and RFC 5891 (the email-validator library, which asks no name server here); telephone
numbers follow ITU-T E.164 and the numbering plans in Google's libphonenumber.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import phonenumbers
from babel.core import get_global
from email_validator import EmailNotValidError, validate_email
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, SUPPORTED_REGIONS, PhoneNumberFormat, PhoneNumberType

from reminders.errors import ConfigurationError

Kind = Literal["email", "phone"]
Problem = Literal["no_address", "bad_address"]
NumberType = Literal[
    "mobile", "fixed_line", "fixed_line_or_mobile", "premium_rate", "shared_cost", "toll_free", "voip", "other"
]

NUMBER_TYPES: dict[int, NumberType] = {
    PhoneNumberType.MOBILE: "mobile",
    PhoneNumberType.FIXED_LINE: "fixed_line",
    PhoneNumberType.FIXED_LINE_OR_MOBILE: "fixed_line_or_mobile",
    PhoneNumberType.PREMIUM_RATE: "premium_rate",
    PhoneNumberType.SHARED_COST: "shared_cost",
    PhoneNumberType.TOLL_FREE: "toll_free",
    PhoneNumberType.VOIP: "voip",
}
LONGEST_CALLING_CODE = 3
SHORTEST_SECRET = 16
HIDDEN = "•••"


@dataclass(frozen=True, slots=True)
class Address:
    """One place to reach a client at. Its repr, and so every log and traceback, leaves the value out.

    `value` is the email address, or the number in E.164, and empty where there is a `problem`. `country` (ISO 3166,
    two letters; None for numbers of no country, such as +800) and `number_type` are those of a telephone number.
    """

    kind: Kind
    value: str = field(default="", repr=False)
    country: str | None = None
    number_type: NumberType | None = None
    problem: Problem | None = None


def normalise_email(text: str | None) -> Address:
    """The email address in `text`: its domain in lower case and ASCII, its local part as it is written.

    `no_address` for None and blank text. `bad_address` for all that is not one address by itself, and for a local part
    that is not ASCII, which only relays that speak SMTPUTF8 (RFC 6531) would take.
    """
    stripped = (text or "").strip()
    if not stripped:
        return Address("email", problem="no_address")
    try:
        valid = validate_email(stripped, check_deliverability=False, allow_smtputf8=False)
    except (EmailNotValidError, ValueError):
        return Address("email", problem="bad_address")
    return Address("email", f"{valid.local_part}@{valid.ascii_domain.lower()}")


def normalise_phone(text: str | None, default_region: str | None) -> Address:
    """The telephone number in `text`, in E.164.

    `default_region` (ISO 3166, two letters, or None) reads a number that has no country code; without a region such a
    number is a `bad_address`. So is one that its numbering plan does not have, and one with an extension: E.164 cannot
    say an extension, so that a contact would reach whoever answers for the whole house.
    """
    stripped = (text or "").strip()
    if not stripped:
        return Address("phone", problem="no_address")
    try:
        number = phonenumbers.parse(stripped, default_region)
    except phonenumbers.NumberParseException:
        return Address("phone", problem="bad_address")
    country = phonenumbers.region_code_for_number(number)
    if number.extension or country is None or not phonenumbers.is_valid_number_for_region(number, country):
        return Address("phone", problem="bad_address")
    return Address(
        "phone",
        phonenumbers.format_number(number, PhoneNumberFormat.E164),
        country if country in SUPPORTED_REGIONS else None,
        NUMBER_TYPES.get(phonenumbers.number_type(number), "other"),
    )


@lru_cache(maxsize=1_000)
def region_of(zone: str) -> str | None:
    """The country (ISO 3166, two letters) of an IANA zone, by CLDR's tables; None for UTC, other zones of no country
    and unknown names. A country without a numbering plan of its own is None too."""
    territory = get_global("zone_territories").get(get_global("zone_aliases").get(zone, zone))
    return territory if territory in SUPPORTED_REGIONS else None


def key(address: Address, secret: bytes) -> bytes:
    """The 32 bytes that stand for the address in the ledger's guards: HMAC-SHA256 (RFC 2104) of its kind and value.

    Texts and calls to one number share a key. Emails that differ only in the case of letters share one too: hardly any
    mail system tells them apart, and a person must not be contacted twice for it. ConfigurationError for an empty
    `secret`; ValueError for an address with a problem, as all of those would share one key.
    """
    if address.problem is not None:
        raise ValueError(f"{address.problem}: there is nothing to make a key of")
    value = address.value.casefold() if address.kind == "email" else address.value
    return _digest(secret, address.kind, value)


def checked_secret(secret: str | None) -> bytes:
    """The secret that addresses are hashed with, as it stands in the environment. ConfigurationError when it is
    missing or shorter than 16 characters, which could be guessed."""
    if not secret:
        raise ConfigurationError(
            "the Variable reminders_address_secret is missing: set AIRFLOW_VAR_REMINDERS_ADDRESS_SECRET"
        )
    if len(secret) < SHORTEST_SECRET:
        raise ConfigurationError(f"the Variable reminders_address_secret is shorter than {SHORTEST_SECRET} characters")
    return secret.encode()


def secret_fingerprint(secret: bytes) -> str:
    """16 hexadecimal digits that tell one secret from another and do not give it away."""
    return _digest(secret, "fingerprint", "").hex()[:16]


def mask(address: Address) -> str:
    """The address as an analyst may see it: `+1•••••23` or `j•••@e•••.com`; empty where there is a problem.

    The number of dots is fixed, so that it does not tell how much is hidden.
    """
    if address.problem is not None:
        return ""
    if address.kind == "phone":
        return f"+{_calling_code(address.value)}•••••{address.value[-2:]}"
    local_part, _, domain = address.value.rpartition("@")
    return f"{local_part[:1]}{HIDDEN}@{domain[:1]}{HIDDEN}.{domain.rpartition('.')[2]}"


def _calling_code(number: str) -> str:
    # No calling code is the beginning of another, so the first that fits is the one.
    for length in range(1, LONGEST_CALLING_CODE + 1):
        if int(number[1 : 1 + length]) in COUNTRY_CODE_TO_REGION_CODE:
            return number[1 : 1 + length]
    return ""


def _digest(secret: bytes, kind: str, value: str) -> bytes:
    if not secret:
        raise ConfigurationError("the secret that addresses are hashed with is empty")
    return hmac.digest(secret, f"{kind}\0{value}".encode(), "sha256")
