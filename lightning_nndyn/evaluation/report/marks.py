"""The small signs of legends and tables: a shape for each colour."""

from __future__ import annotations

from lightning_nndyn.evaluation.report.formatting import GOOD, LOW, OUTCOMES, UNKNOWN
from lightning_nndyn.evaluation.report.html import Html, tag

_SPOTS = {
    GOOD: tag("circle", class_="dot good", cx=8, cy=8, r=4.5),
    LOW: tag("path", class_="dot low", d="M8 2.5L13.5 8L8 13.5L2.5 8Z"),
    UNKNOWN: tag("path", class_="dot unknown", d="M4 4L12 4L12 12L4 12Z"),
}
_TRIANGLE = "M2 3L14 3L8 12.5Z"


def _sign(*shapes: Html, width: int = 16) -> Html:
    return tag("svg", *shapes, width=width, height=16, viewBox=f"0 0 {width} 16", aria_hidden="true")


def outcome_tag(outcome: str) -> Html:
    """The sign and the word for how a run has ended."""
    return tag("span", _sign(_SPOTS[outcome]), OUTCOMES[outcome], class_="tag")


def line_legend(*more: Html) -> Html:
    """What the kinds of lines mean."""
    lines = (
        (GOOD, "good: solid"),
        (LOW, "low: dashed"),
        (UNKNOWN, "end not known: dotted"),
    )
    items = [
        tag("li", _sign(tag("path", class_=f"line thick {kind}", d="M1 8L33 8"), width=34), text)
        for kind, text in lines
    ]
    chosen = tag("li", _sign(tag("path", class_="chosen-line", d="M1 8L33 8"), width=34), "the chosen run")
    return tag("ul", *items, chosen, *more, class_="legend")


def moment_items() -> list[Html]:
    """What the marks of decisions mean."""
    ring = tag("circle", class_="ring", cx=8, cy=8, r=7)
    return [
        tag("li", _sign(tag("path", class_="moment done", d=_TRIANGLE)), "stopped here"),
        tag("li", _sign(tag("path", class_="moment", d=_TRIANGLE)), "would have been stopped here"),
        tag("li", _sign(ring), "a good run that was, or would have been"),
    ]


def spot_legend() -> Html:
    """What the spots of the forecasts mean."""
    cross = tag("path", class_="cross", d="M2 2L14 14M14 2L2 14")
    return tag(
        "ul",
        tag("li", _sign(_SPOTS[GOOD]), "ended good"),
        tag("li", _sign(_SPOTS[LOW]), "ended low"),
        tag("li", _sign(cross), "would have been stopped, sooner or later"),
        class_="legend",
    )


def share_bar(share: float, class_: str = "bar") -> Html:
    """A bar as long as a share; the number stands beside it."""
    width = 120
    filled = max(0.0, min(1.0, share)) * width
    rest = tag("rect", class_="rest", width=width, height=7, rx=2)
    part = tag("rect", width=f"{filled:.1f}", height=7, rx=2)
    return tag("svg", rest, part, class_=class_, width=width, height=7, aria_hidden="true")
