"""The simulator's page as a person sees it, in a real Chromium."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.simulator.client import Simulator
from tests.simulator.library import library

MONDAY = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
OFFICE = "+15005550006"
ANN, BOB = "+12025550123", "+12025550124"
MAILBOX = "ann@example.com"
MARKUP = '<script>document.title = 1</script><img src="http://192.0.2.1/x.png" onerror="document.title = 2"> &amp; more'
LONG = "https://example.com/" + "very-long-" * 30
# WCAG 2.2, success criterion 1.4.3: text of the usual size against what is behind it.
LEGIBLE = 4.5
CONTRASTS = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => parts(colour).slice(0, 3).map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const isClear = (colour) => (parts(colour)[3] ?? 1) === 0;
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!isClear(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.body.querySelectorAll("*")]
    .filter((element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .map((element) => {
      const [low, high] = [getComputedStyle(element).color, behind(element)].map(light).sort((a, b) => a - b);
      return [element.outerHTML.slice(0, 80), (high + 0.05) / (low + 0.05)];
    });
}"""


@dataclass
class Watched:
    """A page with all that it asked for, and all that it complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))


@pytest.fixture(scope="module")
def network() -> Iterator[Simulator]:
    """A network that has reached two phones and a mailbox."""
    with Simulator.start(speed=0, start=MONDAY) as running:
        client, _ = library(running)
        for to, body in ((ANN, "Your visit is on Tuesday at 10:15."), (BOB, MARKUP), (BOB, LONG)):
            client.messages.create(to=to, from_=OFFICE, body=body)
        client.calls.create(to=ANN, from_=OFFICE, twiml="<Response><Say>Your visit is tomorrow.</Say></Response>")
        running.advance(until_idle=True)
        for subject in ("Your visit on Tuesday", MARKUP):
            email = EmailMessage()
            email["From"], email["To"], email["Subject"] = "office@example.com", MAILBOX, subject
            email.set_content("See you at 10:15")
            calendar = b"BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n"
            email.add_attachment(calendar, maintype="text", subtype="calendar", filename="visit.ics")
            with smtplib.SMTP(running.smtp_host, running.smtp_port, timeout=5) as smtp:
                smtp.send_message(email)
        yield running


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def watched(browser: Browser, network: Simulator) -> Iterator[Watched]:
    """The page, loaded."""
    with browser.new_context(viewport={"width": 1200, "height": 900}) as context:
        watching = Watched(context.new_page())
        watching.page.goto(network.base_url)
        yield watching


def card(page: Page, heading: str) -> str:
    """What a person reads on the card of a phone or a mailbox."""
    found = page.get_by_role("article", name=heading, exact=True)
    expect(found).to_be_visible()
    return found.inner_text()


def test_each_phone_shows_its_texts_and_what_was_heard(watched: Watched) -> None:
    ann, bob = card(watched.page, ANN), card(watched.page, BOB)
    assert ann.index("Your visit is tomorrow.") < ann.index("Your visit is on Tuesday at 10:15."), "newest first"
    assert ("Call" in ann, "completed" in ann, OFFICE in ann, "2026-03-02 15:00" in ann) == (True,) * 4
    assert "Your visit" not in bob
    expect(watched.page.get_by_text("1 calls rang, 3 texts and 2 emails arrived.")).to_be_visible()


def test_each_mailbox_shows_its_emails(watched: Watched) -> None:
    mailbox = card(watched.page, MAILBOX)
    for part in ("Your visit on Tuesday", "See you at 10:15", "office@example.com", "visit.ics"):
        assert part in mailbox


def test_markup_is_shown_as_text_and_does_nothing(watched: Watched) -> None:
    assert MARKUP in card(watched.page, BOB)
    assert MARKUP in card(watched.page, MAILBOX)
    assert watched.page.locator("script, img").count() == 0
    assert watched.page.title() == "Phones and mailboxes"


def test_nothing_is_asked_of_anybody_else_and_the_console_is_silent(watched: Watched, network: Simulator) -> None:
    watched.page.get_by_role("link", name="Show what is new").click()
    watched.page.wait_for_load_state("networkidle")
    assert len(watched.requests) >= 2
    assert [url for url in watched.requests if not url.startswith(network.base_url + "/")] == []
    assert watched.complaints == []


def test_the_keyboard_leads_past_the_header(watched: Watched) -> None:
    watched.page.keyboard.press("Tab")
    watched.page.keyboard.press("Enter")
    expect(watched.page.get_by_role("heading", name="Phones (2)")).to_be_focused()


@pytest.mark.parametrize("width", [320, 700, 1600])
def test_no_window_is_too_narrow(watched: Watched, width: int) -> None:
    watched.page.set_viewport_size({"width": width, "height": 700})
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
    for heading in (ANN, BOB, MAILBOX):
        box = watched.page.get_by_role("article", name=heading, exact=True).bounding_box()
        assert box is not None
        assert box["x"] >= 0 and box["x"] + box["width"] <= width


def test_it_is_legible_in_light_and_dark(watched: Watched, scheme: str) -> None:
    watched.page.emulate_media(color_scheme=scheme)
    shade = sum(int(part) for part in watched.page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g)"
    ))  # fmt: skip
    assert (shade < 3 * 64) == (scheme == "dark")
    contrasts = watched.page.evaluate(CONTRASTS)
    assert len(contrasts) > 20
    assert [(what, ratio) for what, ratio in contrasts if ratio < LEGIBLE] == []
