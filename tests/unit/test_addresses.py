"""Addresses as a book has them: which spelling, type and country each gets, and what must never be seen of it."""

from __future__ import annotations

import logging
import pickle
import traceback
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reminders.addresses import (
    Address,
    key,
    mask,
    normalise_email,
    normalise_phone,
    region_of,
    secret_fingerprint,
)
from reminders.errors import ConfigurationError

# Numbers of the ranges that regulators keep free for fiction, where there is one of the type.
US_NUMBER, UK_NUMBER = "+12125550123", "+442079460123"
SECRET, OTHER_SECRET = b"a secret for tests only", b"another one"
steady = settings(derandomize=True, deadline=None, max_examples=200)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("ada@example.com", "ada@example.com"),
        ("  ada@example.com\r\n", "ada@example.com"),
        ("Ada.Sample+vet@EXAMPLE.Com", "Ada.Sample+vet@example.com"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@XN--BCHER-KVA.example", "ada@xn--bcher-kva.example"),
    ],
)
def test_an_email_address_has_one_spelling(text: str, value: str) -> None:
    assert normalise_email(text) == Address("email", value)


@pytest.mark.parametrize("text", [None, "", " ", "\t\n"])
def test_no_address_is_told_from_a_bad_one(text: str | None) -> None:
    assert normalise_email(text) == Address("email", problem="no_address")
    assert normalise_phone(text, "US") == Address("phone", problem="no_address")


@pytest.mark.parametrize(
    "text",
    [
        "ada",
        "ada@",
        "@example.com",
        "ada@example",
        "ada@localhost",
        "ada@clinic.test",
        "ada@192.0.2.1",
        "a b@example.com",
        "ada@example.com, bob@example.com",
        "Ada <ada@example.com>",
        "mailto:ada@example.com",
        "ada@example.com.",
        "ada@example.com\nBcc: all@example.com",
        "ada@exa\u202emple.com",
        "adä@example.com",
        "\ud800@example.com",
        "\0@a.com",
        "a" * 10_000 + "@example.com",
        "a@" + "b." * 5_000 + "com",
        "n/a",
        "-",
        "+12125550123",
    ],
)
def test_a_bad_email_address_is_a_problem_and_never_an_error(text: str) -> None:
    assert normalise_email(text) == Address("email", problem="bad_address")


@pytest.mark.parametrize(
    ("text", "region", "value", "country", "number_type"),
    [
        (US_NUMBER, None, US_NUMBER, "US", "fixed_line_or_mobile"),
        (US_NUMBER, "GB", US_NUMBER, "US", "fixed_line_or_mobile"),
        (" (212) 555-0123 ", "US", US_NUMBER, "US", "fixed_line_or_mobile"),
        ("1 212.555.0123", "US", US_NUMBER, "US", "fixed_line_or_mobile"),
        ("011 44 20 7946 0123", "US", UK_NUMBER, "GB", "fixed_line"),
        ("020 7946 0123", "GB", UK_NUMBER, "GB", "fixed_line"),
        ("+44 (0)20 7946 0123", None, UK_NUMBER, "GB", "fixed_line"),
        ("０２０　７９４６　０１２３", "GB", UK_NUMBER, "GB", "fixed_line"),
        ("٠٢٠٧٩٤٦٠١٢٣", "GB", UK_NUMBER, "GB", "fixed_line"),
        ("+61 491 570 156", None, "+61491570156", "AU", "mobile"),
        ("0491 570 156", "AU", "+61491570156", "AU", "mobile"),
        ("+1 613 555 0123", "US", "+16135550123", "CA", "fixed_line_or_mobile"),
        ("+39 06 1234 5678", None, "+390612345678", "IT", "fixed_line"),
        ("+1 900 555 1234", None, "+19005551234", "US", "premium_rate"),
        ("0843 123 4567", "GB", "+448431234567", "GB", "premium_rate"),
        ("0180 1 2345", "DE", "+4918012345", "DE", "shared_cost"),
        ("+1 800 555 1234", None, "+18005551234", "US", "toll_free"),
        ("+44 56 0000 0000", None, "+445600000000", "GB", "voip"),
        ("+44 70 1234 5678", None, "+447012345678", "GB", "other"),
        ("+800 1234 5678", None, "+80012345678", None, "toll_free"),
    ],
)
def test_a_telephone_number_has_one_spelling_a_country_and_a_type(
    text: str, region: str | None, value: str, country: str | None, number_type: str
) -> None:
    found = normalise_phone(text, region)
    assert (found.kind, found.problem) == ("phone", None)
    assert (found.value, found.country, found.number_type) == (value, country, number_type)


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("(212) 555-0123", None),
        ("(212) 555-0123", "no such region"),
        ("911", "US"),
        ("999", "GB"),
        ("112", "DE"),
        ("12345", "US"),
        ("+1 212 555 01", None),
        ("+1 212 555 0123 4567 8901", None),
        ("+999 123 456 789", None),
        # An extension cannot be dialled: whoever answers for the house would hear of the appointment.
        ("+1 212 555 0123 ext. 4", None),
        ("tel:+12125550123;ext=4", None),
        ("call the office", "US"),
        ("ada@example.com", "US"),
        ("n/a", "US"),
        ("-", "US"),
        ("\0", "US"),
        ("\ud800", "US"),
        ("+" * 10_000, "US"),
        ("5" * 10_000, "US"),
    ],
)
def test_a_bad_telephone_number_is_a_problem_and_never_an_error(text: str, region: str | None) -> None:
    assert normalise_phone(text, region) == Address("phone", problem="bad_address")


@steady
@given(st.text(max_size=60), st.sampled_from(["US", "GB", "JP", "", "??", None]))
def test_any_text_ends_as_an_address_or_a_problem(text: str, region: str | None) -> None:
    for found in (normalise_email(text), normalise_phone(text, region)):
        assert (found.problem is None) == bool(found.value)
        if found.value:
            again = normalise_email(found.value) if found.kind == "email" else normalise_phone(found.value, None)
            assert again == found


@steady
@given(st.integers(200, 989), st.integers(200, 999), st.integers(0, 9999))
def test_every_way_to_write_a_number_has_the_same_key(area: int, exchange: int, line: int) -> None:
    digits = f"{area}{exchange}{line:04}"
    ways = [
        f"+1{digits}",
        f"1-{digits}",
        digits,
        f"({area}) {exchange}-{line:04}",
        f"+1 {digits} ",
    ]
    found = {normalise_phone(way, "US") for way in ways}
    assert len(found) == 1
    if (address := found.pop()).problem is None:
        assert len({key(normalise_phone(way, "US"), SECRET) for way in ways}) == 1
        assert key(address, SECRET) != key(address, OTHER_SECRET)


@pytest.mark.parametrize(
    ("zone", "region"),
    [
        ("America/New_York", "US"),
        ("US/Eastern", "US"),
        ("Europe/London", "GB"),
        ("Europe/Belfast", "GB"),
        ("Australia/Lord_Howe", "AU"),
        ("Asia/Calcutta", "IN"),
        ("Asia/Kolkata", "IN"),
        ("Asia/Tokyo", "JP"),
        ("America/Toronto", "CA"),
        ("UTC", None),
        ("Etc/GMT+5", None),
        ("Mars/Olympus", None),
        ("", None),
    ],
)
def test_the_zone_tells_the_region_of_a_number_without_a_country_code(zone: str, region: str | None) -> None:
    assert region_of(zone) == region


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("ada@example.com", "ADA@Example.COM", True),
        ("ada@bücher.example", "ada@xn--bcher-kva.example", True),
        ("ada@example.com", "ada+vet@example.com", False),
        ("ada@example.com", "bob@example.com", False),
    ],
)
def test_one_mailbox_has_one_key(one: str, other: str, is_same: bool) -> None:
    assert (key(normalise_email(one), SECRET) == key(normalise_email(other), SECRET)) is is_same


def test_a_key_is_keyed_by_secret_and_kind_and_is_stable_across_releases() -> None:
    number = normalise_phone(US_NUMBER, None)
    # The ledger's guards hold such keys for ever: another key for the same number would let it be contacted again.
    assert key(number, SECRET).hex() == "dd32a90e5816b52d6113c03fe835ccd51176ecc28d26d5b1e7ca73bc6c296f0f"
    assert (
        key(normalise_email("Ada@example.com"), SECRET).hex()
        == "237334e5a4d9d3dac055db0da76f9fb80d5e30f35931a21a7d14c69164515bcc"
    )
    assert key(number, OTHER_SECRET) != key(number, SECRET)
    assert key(Address("email", US_NUMBER), SECRET) != key(number, SECRET)


@pytest.mark.parametrize("bad", [normalise_phone(None, None), normalise_email("ada")])
def test_addresses_with_a_problem_share_no_key(bad: Address) -> None:
    with pytest.raises(ValueError, match="nothing to make a key of"):
        key(bad, SECRET)


def test_an_empty_secret_is_refused() -> None:
    for use in (lambda: key(normalise_phone(US_NUMBER, None), b""), lambda: secret_fingerprint(b"")):
        with pytest.raises(ConfigurationError, match="secret"):
            use()


def test_the_fingerprint_tells_secrets_apart_and_does_not_contain_them() -> None:
    fingerprint = secret_fingerprint(SECRET)
    assert fingerprint == "201edbd02cfcd227"
    assert fingerprint != secret_fingerprint(OTHER_SECRET)
    assert fingerprint not in {SECRET.hex()[:16], key(normalise_phone(US_NUMBER, None), SECRET).hex()[:16]}


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        (normalise_phone(US_NUMBER, None), "+1•••••23"),
        (normalise_phone(UK_NUMBER, None), "+44•••••23"),
        (normalise_phone("+353 1 234 5678", None), "+353•••••78"),
        (normalise_phone("+800 1234 5678", None), "+800•••••78"),
        (normalise_email("jo@example.com"), "j•••@e•••.com"),
        (normalise_email("j@example.co.uk"), "j•••@e•••.uk"),
        (normalise_email("josephine.sample@bücher.example"), "j•••@x•••.example"),
        (normalise_phone("nobody", "US"), ""),
        (normalise_email(None), ""),
    ],
)
def test_a_mask_shows_little_and_not_how_much_it_hides(address: Address, masked: str) -> None:
    assert mask(address) == masked


@pytest.mark.parametrize("address", [normalise_phone(US_NUMBER, None), normalise_email("canary@example.com")])
def test_no_repr_log_or_traceback_shows_an_address(address: Address, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("any").warning("%s %r %s", address, address, [address])
    with pytest.raises(FrozenInstanceError) as refused:
        address.value = "another"  # type: ignore[misc]
    shown = "".join(traceback.format_exception(refused.value)) + caplog.text + repr({address: [address]})
    assert "kind='" in shown
    assert not [part for part in ("canary", "example.com", "212", "5550123") if part in shown]
    assert pickle.loads(pickle.dumps(address)) == address


@pytest.mark.parametrize("text", ["canary@@example.com", "2125550123 canary"])
def test_a_bad_address_is_not_kept(text: str) -> None:
    for found in (normalise_email(text), normalise_phone(text, None)):
        assert found.value == "" and "canary" not in repr(found)
