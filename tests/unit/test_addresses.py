"""Addresses as people write them."""

from __future__ import annotations

import pytest

from reminders.addresses import key, mask, normalise_email, normalise_phone, region_of, secret_fingerprint


@pytest.mark.parametrize(
    ("text", "value", "problem"),
    [
        ("ada@Example.COM", "ada@example.com", None),
        ("  ada@example.com ", "ada@example.com", None),
        (None, "", "no_address"),
        ("  ", "", "no_address"),
        ("ada", "", "bad_address"),
        ("ada@example.com\nBcc: eve@example.com", "", "bad_address"),
        ("a" * 10_000 + "@example.com", "", "bad_address"),
    ],
)
def test_email(text: str | None, value: str, problem: str | None) -> None:
    address = normalise_email(text)
    assert (address.value, address.problem) == (value, problem)


@pytest.mark.parametrize(
    ("text", "region", "value", "country", "number_type", "problem"),
    [
        ("020 7946 0018", "GB", "+442079460018", "GB", "fixed_line", None),
        ("+44 7400 123456", "US", "+447400123456", "GB", "mobile", None),
        ("(212) 736-5000", "US", "+12127365000", "US", "fixed_line_or_mobile", None),
        ("+44 909 879 0000", "GB", "+449098790000", "GB", "premium_rate", None),
        ("090-1234-5678", "JP", "+819012345678", "JP", "mobile", None),
        ("12", "GB", "", None, None, "bad_address"),
        ("call my wife", "GB", "", None, None, "bad_address"),
        ("020 7946 0018", None, "", None, None, "bad_address"),
        ("", "GB", "", None, None, "no_address"),
        (None, "GB", "", None, None, "no_address"),
        ("9" * 10_000, "GB", "", None, None, "bad_address"),
    ],
)
def test_phone(
    text: str | None, region: str | None, value: str, country: str | None, number_type: str | None, problem: str | None
) -> None:
    address = normalise_phone(text, region)
    found = (address.value, address.country, address.number_type, address.problem)
    assert found == (value, country, number_type, problem)


@pytest.mark.parametrize(
    ("zone", "region"),
    [("America/New_York", "US"), ("Europe/London", "GB"), ("Asia/Tokyo", "JP"), ("US/Eastern", "US"), ("UTC", None)],
)
def test_a_zone_has_a_country(zone: str, region: str | None) -> None:
    assert region_of(zone) == region


def test_the_key_is_the_same_however_it_is_written() -> None:
    secret = b"secret"
    assert key(normalise_phone("020 7946 0018", "GB"), secret) == key(normalise_phone("+442079460018", None), secret)
    assert key(normalise_email("Ada@example.com"), secret) == key(normalise_email("ada@EXAMPLE.com"), secret)
    assert key(normalise_email("ada@example.com"), secret) != key(normalise_email("ada@example.com"), b"another")


def test_nothing_gives_the_address_away() -> None:
    phone, email = normalise_phone("020 7946 0018", "GB"), normalise_email("ada@example.com")
    assert "7946" not in repr(phone) + mask(phone)
    assert "ada@" not in repr(email) + mask(email) and "example" not in mask(email)
    assert (mask(phone), mask(email)) == ("+44•••••18", "a•••@e•••.com")
    assert "secret" not in secret_fingerprint(b"secret")
