"""Figures: one template, units that read, colours that everybody tells apart, and strangers' text as text."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import pkgutil
import re
from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
import pytest

from aetheris.domain.trace import TraceLine
from aetheris.workbench import charts
from aetheris.workbench.charts import doubts, replays, template, tenants, timeline, waits

#: JupyterLab's grounds, light and dark.
GROUNDS = ("#ffffff", "#111111")
HOSTILE = "<script>alert(1)</script>\u202egpj.exe $\\href{x}{y}$ <a href='javascript:alert(1)'>" + "A" * 10_000_000

LINES = [
    TraceLine(1, 0, 0, "created", "user/desk"),
    TraceLine(2, 1, 5_000, "call", "refund", "once", 400_000, 1200, ("started", "committed")),
    TraceLine(4, 2, 500_000, "approval 2", "operator", duration_us=9_000_000),
    TraceLine(6, 0, 31_000_000, "took over", "w2", duration_us=20_000_000, note="worker w1 lost"),
]
WAITS = [
    {"tenant_id": t, "job_id": "7kq2", "asked_us": n * 1000, "slot_us": n * 9000, "started_us": s, "outcome": o}
    for n, (t, s, o) in enumerate([("acme", 100, "started"), ("bolt", 90_000, "started"), ("acme", None, "refused")])
]
REQUESTS = [
    {"action": "view_job", "success": True, "entries": 12},
    {"action": "view_job", "success": False, "entries": 3},
]
PARKED = [{"kind": k, "label": f"7kq2 {k}", "since_us": 1_000_000} for k in ("doubt", "approval", "paused", "stopped")]
#: Every figure builder, with what it draws, and with nothing to draw.
SAMPLES: dict[Callable[..., go.Figure], tuple[tuple[Any, ...], tuple[Any, ...]]] = {
    timeline.timeline: ((LINES, "job 7kq2"), ([], "job 7kq2")),
    waits.waterfall: ((WAITS, "tool refund"), ([], "tool refund")),
    waits.rate: (([{"second": 0, "starts": 10}, {"second": 1, "starts": 9}], 10.0, "rate"), ([], 10.0, "rate")),
    waits.histograms: (([0.1, 1], {"the lake": [1, 2], "Prometheus": [1, 2]}, "waits"), ([0.1, 1], {}, "waits")),
    replays.against_events: (({"all events": [(500, 0.03), (5000, 0.2)], "a snapshot": [(500, 0.01)]}, "t"), ({}, "t")),
    tenants.requests: ((REQUESTS, "acme"), ([], "acme")),
    doubts.waiting: ((PARKED, 90_000_000, "waits"), ([], 0, "waits")),
}


def builders() -> set[Callable[..., go.Figure]]:
    """Every public function of the charts that returns a figure."""
    modules = [importlib.import_module(f"{charts.__name__}.{m.name}") for m in pkgutil.iter_modules(charts.__path__)]
    return {
        function
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and function.__annotations__.get("return") == "go.Figure"
        and function is not template.figure
    }


def strings(value: Any) -> list[str]:
    """Every text in a JSON value, keys included."""
    if isinstance(value, dict):
        return [s for k, v in value.items() for s in (k, *strings(v))]
    if isinstance(value, list):
        return [s for v in value for s in strings(v)]
    return [value] if isinstance(value, str) else []


def test_every_chart_is_in_the_table() -> None:
    """A chart that nobody draws here would be held to nothing below."""
    assert builders() == SAMPLES.keys()


@pytest.mark.parametrize("empty", [False, True], ids=["with rows", "empty"])
@pytest.mark.parametrize("build", SAMPLES, ids=lambda f: f.__name__)
def test_every_chart_is_in_the_one_template(build: Callable[..., go.Figure], empty: bool) -> None:
    """One ground, one grey, one palette; the same twice to the letter, so that a saved notebook stays as it is."""
    arguments = SAMPLES[build][empty]
    figure = build(*arguments)
    assert figure.layout.template == template.TEMPLATE
    own = json.loads(figure.to_json())["layout"]
    assert not own.keys() & {"font", "paper_bgcolor", "plot_bgcolor", "margin", "colorway", "hoverlabel", "legend"}
    assert own["title"].keys() == {"text"}
    assert build(*arguments).to_json() == figure.to_json()
    assert all(re.fullmatch("[a-z0-9-]+", trace.uid) for trace in figure.data)
    if empty:
        assert not figure.data
        assert figure.layout.annotations[0].text
    else:
        assert figure.data
        assert figure.layout.xaxis.title.text


@pytest.mark.parametrize("build", SAMPLES, ids=lambda f: f.__name__)
def test_no_chart_holds_more_of_a_stranger_than_text(build: Callable[..., go.Figure]) -> None:
    """Markup, formulas and bidi marks are spelled out, and ten megabytes are cut."""
    hostile = [_with(argument, HOSTILE) for argument in SAMPLES[build][0]]
    found = strings(json.loads(build(*hostile).to_json()))
    assert any("script" in text for text in found)
    assert max(map(len, found)) < 1000
    for text in found:
        rest = text.replace("<br>", "").replace("<extra></extra>", "")
        assert not any(c in rest for c in ("<", "\u202e", "$"))


def _with(value: Any, text: str) -> Any:
    """The same value, every text that is a stranger's replaced."""
    if isinstance(value, str):
        return text
    if isinstance(value, TraceLine):
        return TraceLine(value.seq, value.step, value.since_start_us, value.what, text, text, 5, 5, (text,), note=text)
    if isinstance(value, list):
        return [_with(v, text) for v in value]
    if isinstance(value, dict):
        strangers = {"tenant_id", "job_id", "outcome", "action", "label"}
        if strangers & value.keys():
            return {k: text if k in strangers else v for k, v in value.items()}
        return {text if isinstance(v, list) else k: v for k, v in value.items()}
    return value


def channel(value: int) -> float:
    """One channel of sRGB, linear. Source: WCAG 2.2, relative luminance."""
    share = value / 255
    return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4


def linear(colour: str) -> list[float]:
    """Red, green and blue of `#rrggbb`, linear."""
    return [channel(int(colour[n : n + 2], 16)) for n in (1, 3, 5)]


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, 1 to 21. Source: WCAG 2.2, 1.4.3."""
    light = sorted(sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear(x), strict=True)) for x in (one, other))
    return (light[1] + 0.05) / (light[0] + 0.05)


@pytest.mark.parametrize("ground", GROUNDS, ids=["light", "dark"])
def test_text_and_outlines_stand_out_on_light_and_on_dark(ground: str) -> None:
    """A figure is drawn once and shown on either."""
    assert contrast(template.GREY, ground) > 4.3
    assert template.TEMPLATE.layout.paper_bgcolor == template.TEMPLATE.layout.plot_bgcolor == template.CLEAR
    assert template.TEMPLATE.data.bar[0].marker.line.color == template.GREY


#: Source: Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB.
BLINDNESS = {
    "none": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("matrix", BLINDNESS.values(), ids=BLINDNESS.keys())
def test_no_two_colours_look_alike_to_anybody(matrix: list[list[float]]) -> None:
    """Distances in CIE L*a*b*, as each kind of eye sees them."""

    def seen(colour: str) -> list[float]:
        rgb = [min(1.0, max(0.0, sum(w * c for w, c in zip(row, linear(colour), strict=True)))) for row in matrix]
        to_xyz = ([0.4339, 0.3763, 0.1899], [0.2126, 0.7152, 0.0722], [0.0177, 0.1095, 0.8728])
        x, y, z = (sum(w * c for w, c in zip(row, rgb, strict=True)) ** (1 / 3) for row in to_xyz)
        return [116 * y - 16, 500 * (x - y), 200 * (y - z)]

    for one, other in itertools.combinations(template.PALETTE, 2):
        distance = sum((a - b) ** 2 for a, b in zip(seen(one), seen(other), strict=True)) ** 0.5
        assert distance > 10, (one, other, distance)


@pytest.mark.parametrize(
    ("us", "said", "unit"),
    [
        (0, "0 µs", "microseconds"),
        (412, "412 µs", "microseconds"),
        (2_000, "2 ms", "milliseconds"),
        (1_234_567, "1.23 s", "milliseconds"),
        (31_402_000, "31.4 s", "seconds"),
        (90e6, "1.5 min", "seconds"),
        (6 * 3_600e6, "6 h", "hours"),
        (9 * 86_400e6, "9 d", "days"),
        (4_000 * 86_400e6, "4,000 d", "days"),
    ],
)
def test_a_time_reads_as_a_small_number_with_its_unit(us: float, said: str, unit: str) -> None:
    """Nobody counts the noughts of 21600000000."""
    assert template.duration(us) == said
    assert template.unit_for(us)[0] == unit


def test_an_axis_names_the_unit_that_its_bars_are_in() -> None:
    """31 s are drawn as 31 seconds, 0.4 s as 400 milliseconds."""
    long = timeline.timeline(LINES, "job")
    assert long.layout.xaxis.title.text.startswith("seconds ")
    assert max(b + x for bar in long.data for b, x in zip(bar.base, bar.x, strict=True)) < 32
    short = timeline.timeline(LINES[:2], "job")
    assert short.layout.xaxis.title.text.startswith("milliseconds ")
    assert max(bar.x[0] for bar in short.data) == 400


def test_counts_are_whole_and_axes_say_all_their_words() -> None:
    """Half a call is never made, and 0 1 1 2 2 is no scale."""
    few, many = template.whole(3), template.whole(4000)
    assert (few["dtick"], few["tickformat"]) == (1, ",d")
    assert "dtick" not in many
    for build, (arguments, _) in SAMPLES.items():
        layout = build(*arguments).layout
        assert "[cut]" not in f"{layout.title.text} {layout.xaxis.title.text} {layout.yaxis.title.text}"


def test_a_call_in_doubt_is_hatched_to_the_end_of_the_record() -> None:
    """Drawn as a hair it would look as if it had taken no time; nobody knows how long it took."""
    doubt = TraceLine(5, 3, 1_000_000, "call", "refund", "once", states=("started", "unknown"))
    figure = timeline.timeline([*LINES, doubt], "job")
    bar = next(bar for bar in figure.data if bar.name == timeline.DOUBT)
    assert (bar.base[0], bar.base[0] + bar.x[0]) == (1, 31)
    assert bar.marker.pattern.shape == "/"
    assert [bar.name for bar in figure.data][-1] == timeline.OTHERS


def test_a_long_trace_is_drawn_in_pages() -> None:
    """Ten thousand bars would stop the page; the title says which are shown."""
    many = [TraceLine(n, n, n * 1000, "call", "look", "none", 500) for n in range(10_000)]
    page = timeline.timeline(many, "job", begin=400)
    assert sum(len(bar.y) for bar in page.data) == timeline.ROWS_MOST
    assert "lines 401 to 600 of 10,000" in page.layout.title.text
    assert page.data[0].y[0] == "401. call 400 look"
    assert page.layout.height < 6000
