"""The chart of the two nights: one description, as a picture and as a page that loads nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

from reminders.model import Channel
from tests.drill.figures import between
from tests.drill.night import Run, Schedule

QUARTER = "15min"
# From light to dark as the channels get louder, and apart for every kind of colour blindness.
CHANNELS = {"email": ("emails", "#56b4e9"), "sms": ("texts", "#e69f00"), "call": ("calls", "#a50026")}
WIDTH, HEIGHT = 430, 118
INK, FAINT, SHADE = "#222222", "#666666", "#e4e4ea"
MARGIN = timedelta(hours=4)
# Dots for each unit: sharp enough, and light.
PICTURE_SCALE = 1.5


def by_quarter(heard: pd.DataFrame) -> pd.DataFrame:
    """`heard` (see figures.py) as contacts in each quarter of an hour: channel, quarter, quarter_ends, contacts."""
    once = heard.drop_duplicates("contact_id")
    counted = once.groupby(["channel", once["at"].dt.floor(QUARTER).rename("quarter")]).size().rename("contacts")
    return counted.reset_index().assign(quarter_ends=lambda frame: frame["quarter"] + pd.Timedelta(QUARTER))


def write(folder: Path, runs: dict[str, Run], schedule: Schedule, clients: int) -> list[Path]:
    """Write night.png and night.html into `folder`; `runs` are the systems' by their names, from left to right."""
    chart = nights(runs, schedule, clients)
    folder.mkdir(parents=True, exist_ok=True)
    picture, page = folder / "night.png", folder / "night.html"
    chart.save(picture, scale_factor=PICTURE_SCALE)
    chart.save(page, inline=True, embed_options={"actions": False})
    return [picture, page]


def nights(runs: dict[str, Run], schedule: Schedule, clients: int) -> Any:
    """A column for each system, a row for each channel, all on the same axes."""
    counts = {name: by_quarter(run.heard) for name, run in runs.items()}
    most = max(int(frame["contacts"].max()) if len(frame) else 1 for frame in counts.values())
    columns = [
        alt.vconcat(
            *(_panel(counts[name], run, channel, schedule, most) for channel in CHANNELS),
            title=alt.Title(name, fontSize=15, color=INK, anchor="start", offset=16),
            spacing=26,
        )
        for name, run in runs.items()
    ]
    return (
        alt.hconcat(*columns, spacing=30)
        .properties(
            title=alt.Title(
                f"The night of the {schedule.hours} hours",
                subtitle=[
                    f"What reached {clients} clients, by the telephone network's own log: contacts in each quarter of "
                    "an hour, on a logarithmic scale.",
                    f"Grey: the {schedule.hours} hours in which a deploy had broken the sending. Then it was reverted.",
                ],
                fontSize=20,
                subtitleFontSize=13,
                subtitleColor=FAINT,
                color=INK,
                anchor="start",
                offset=18,
            ),
            padding=20,
        )
        .configure(font="Liberation Sans, Arial, sans-serif")
        .configure_view(stroke=None)
    )


def _panel(counts: pd.DataFrame, run: Run, channel: str, schedule: Schedule, most: int) -> Any:
    name, colour = CHANNELS[channel]
    is_last = channel == list(CHANNELS)[-1]
    span = (schedule.normal_from + MARGIN, schedule.ends_at - MARGIN)
    x = alt.X(
        "quarter:T",
        scale=alt.Scale(type="utc", domain=[_stamp(at) for at in span]),
        axis=alt.Axis(
            title=None, labels=is_last, ticks=is_last, format="%a %H:%M", values=_half_days(*span),
            grid=False, domainColor="#bbbbbb", labelColor=FAINT, labelFontSize=11,
        ),
    )  # fmt: skip
    y = alt.Y(
        "contacts:Q",
        scale=alt.Scale(type="symlog", domain=[0, most * 1.3]),
        axis=alt.Axis(
            title=None, values=[0, 10, 100, 1000, 10000, 100000], format=",d", gridColor="#eeeeee", domain=False,
            ticks=False, labelColor=FAINT, labelFontSize=11,
        ),
    )  # fmt: skip
    shown = counts[(counts["channel"] == channel) & counts["quarter"].between(*span)]
    bars = (
        alt.Chart(shown)
        .mark_bar(color=colour, stroke=colour, strokeWidth=0.6)
        .encode(
            x=x,
            x2="quarter_ends:T",
            y=y,
            y2=alt.datum(0),
            tooltip=[alt.Tooltip("utchoursminutes(quarter):T", title="from"), alt.Tooltip("contacts:Q", title=name)],
        )
    )
    incident = pd.DataFrame([{"quarter": schedule.broken_at, "quarter_ends": schedule.reverted_at}])
    shade = alt.Chart(incident).mark_rect(color=SHADE).encode(x=x, x2="quarter_ends:T")
    said = [_said(_summary(run, channel, schedule), span[0], -5, "bottom", INK)]
    if channel == Channel.CALL:
        at_once = run.night["most_calls_at_once"]
        rang = f"{at_once} at once on one line" if at_once > 1 else "never two on one line"
        said.append(_said(rang, schedule.reverted_at + MARGIN / 4, 6, "top", colour))
    elif channel == Channel.EMAIL:
        said.append(_said("nothing is sent", schedule.broken_at + MARGIN / 4, 6, "top", FAINT))
    return alt.layer(shade, bars, *said).properties(width=WIDTH, height=HEIGHT)


def _said(words: str, at: datetime, y: float, baseline: str, colour: str) -> Any:
    mark = {"align": "left", "baseline": baseline, "fontSize": 12, "color": colour}
    place = pd.DataFrame([{"words": words, "quarter": at}])
    return alt.Chart(place).mark_text(**mark).encode(x=alt.X("quarter:T"), y=alt.value(y), text="words:N")


def _summary(run: Run, channel: str, schedule: Schedule) -> str:
    counted = []
    for from_at, until_at in ((schedule.normal_from, schedule.normal_until), (schedule.broken_at, schedule.ends_at)):
        part = between(run.heard, from_at, until_at)
        counted.append(part[part["channel"] == channel]["contact_id"].nunique())
    return f"{CHANNELS[channel][0]}: {counted[0]:,} on the normal day, {counted[1]:,} from the deploy on"


def _half_days(from_at: datetime, until_at: datetime) -> list[int]:
    first = from_at.replace(hour=0)
    stamps = [first + timedelta(hours=12 * place) for place in range(1 + (until_at - first) // timedelta(hours=12))]
    return [_stamp(at) for at in stamps if from_at <= at <= until_at]


def _stamp(at: datetime) -> int:
    """Milliseconds of the epoch, as a chart's domain takes them."""
    return int(at.timestamp() * 1000)
