"""Draws the state diagram of the handshake from the package's own table.

The diagram has the entries of ``cqlproto._state.HANDSHAKE``, and ``initiate()`` as the first step.
This module only has the layout: the position of each state, and the route of each edge that is not
a straight line. A new entry of the table is drawn without a change here. A new state needs a
position; the build fails until it has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from cqlproto._state import HANDSHAKE, OPENS_SEGMENTS, State

__all__ = ["Transition", "draw", "transitions"]

Point = tuple[float, float]

SIZE = (830, 560)


class Transition(NamedTuple):
    """An edge: a state, an event in it, the client's action, and the next state."""

    state: State
    event: str
    action: str
    next: State
    opens_segments: bool = False


class Box(NamedTuple):
    """The box of a state: its centre and its size."""

    x: float
    y: float
    width: float = 140
    height: float = 44

    def border(self, towards: Point) -> Point:
        """Return the point where a line from the centre to ``towards`` crosses the border."""
        dx, dy = towards[0] - self.x, towards[1] - self.y
        scale = min(
            self.width / 2 / abs(dx) if dx else float("inf"),
            self.height / 2 / abs(dy) if dy else float("inf"),
        )
        return self.x + dx * scale, self.y + dy * scale


class Route(NamedTuple):
    """The points of an edge, and the position and anchor of its text."""

    points: Sequence[Point]
    label: Point
    anchor: str = "start"


BOXES = {
    State.NEW: Box(420, 40),
    State.OPTIONS_SENT: Box(420, 145),
    State.STARTUP_SENT: Box(420, 250),
    State.AUTHENTICATING: Box(420, 385),
    State.READY: Box(420, 500),
    State.FAILED: Box(760, 265, 110, 310),
}
ROUTES = {
    (State.STARTUP_SENT, State.READY): Route(
        [(350, 250), (60, 250), (60, 500), (350, 500)], (70, 300)
    ),
    (State.AUTHENTICATING, State.AUTHENTICATING): Route(
        [(350, 373), (310, 373), (310, 397), (350, 397)], (300, 383), "end"
    ),
}
# FAILED is tall enough for a horizontal line from each of these states.
for _state in (State.OPTIONS_SENT, State.STARTUP_SENT, State.AUTHENTICATING):
    _y = BOXES[_state].y
    ROUTES[_state, State.FAILED] = Route([(490, _y), (705, _y)], (505, _y - 6))
LINE = {"fill": "none", "stroke": "currentColor"}
STYLE = """
.state-diagram { font-family: sans-serif; font-size: 13px; color: inherit; max-width: 100%; }
.state-diagram text { fill: currentColor; }
.state-diagram .state text { font-weight: bold; text-anchor: middle; }
.state-diagram .event { font-family: monospace; }
.state-diagram .action, .state-diagram .legend { font-size: 12px; font-style: italic; }
"""


def transitions() -> list[Transition]:
    """Return the edges: ``initiate()``, and the entries of the table."""
    found = [Transition(State.NEW, "initiate()", "send OPTIONS", State.OPTIONS_SENT)]
    for (state, opcode), (action, after) in HANDSHAKE.items():
        opens = state is State.STARTUP_SENT and opcode in OPENS_SEGMENTS
        found.append(Transition(state, opcode.name, action.value, after, opens))
    return found


def draw() -> str:
    """Return the diagram as SVG to embed in a page."""
    width, height = SIZE
    root = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "class": "state-diagram",
            "viewBox": f"0 0 {width} {height}",
            "width": f"{width}",
            "role": "img",
        },
    )
    ElementTree.SubElement(root, "title").text = "The client's handshake as states"
    ElementTree.SubElement(root, "style").text = STYLE
    tip = {"id": "tip", "viewBox": "0 0 10 10", "refX": "9", "refY": "5", "orient": "auto"}
    tip |= {"markerWidth": "9", "markerHeight": "9", "markerUnits": "userSpaceOnUse"}
    marker = ElementTree.SubElement(ElementTree.SubElement(root, "defs"), "marker", tip)
    ElementTree.SubElement(marker, "polygon", {"points": "0,0 10,5 0,10", "fill": "currentColor"})
    edges: dict[tuple[State, State], list[Transition]] = {}
    for each in transitions():
        edges.setdefault((each.state, each.next), []).append(each)
    for state in dict.fromkeys(state for edge in edges for state in edge):
        _draw_state(root, state)
    for together in edges.values():
        _draw_edge(root, together)
    legend = {"class": "legend", "x": "20", "y": f"{height - 10}"}
    text = "Thick: after this reply, v5 travels in segments."
    ElementTree.SubElement(root, "text", legend).text = text
    return ElementTree.tostring(root, encoding="unicode")


def _draw_state(root: ElementTree.Element, state: State) -> None:
    box = BOXES[state]
    group = ElementTree.SubElement(root, "g", {"class": "state"})
    left, top = box.x - box.width / 2, box.y - box.height / 2
    size = {"width": f"{box.width:g}", "height": f"{box.height:g}"}
    corner = {"x": f"{left:g}", "y": f"{top:g}", "rx": "6"}
    ElementTree.SubElement(group, "rect", {**corner, **size, **LINE})
    place = {"x": f"{box.x:g}", "y": f"{box.y + 5:g}"}
    ElementTree.SubElement(group, "text", place).text = state.value


def _draw_edge(root: ElementTree.Element, together: Sequence[Transition]) -> None:
    """Draw the edge between two states, with the texts of all its transitions."""
    route = ROUTES.get((together[0].state, together[0].next)) or _straight(together[0])
    thick = any(each.opens_segments for each in together)
    kind = "transition opens-segments" if thick else "transition"
    group = ElementTree.SubElement(root, "g", {"class": kind})
    line = " L ".join(f"{x:g} {y:g}" for x, y in route.points)
    width = {"stroke-width": "2.5" if thick else "1", "marker-end": "url(#tip)"}
    ElementTree.SubElement(group, "path", {"d": f"M {line}", **LINE, **width})
    x, y = route.label
    for each in together:
        for name, text in (("event", each.event), ("action", each.action)):
            place = {"class": name, "x": f"{x:g}", "y": f"{y:g}", "text-anchor": route.anchor}
            ElementTree.SubElement(group, "text", place).text = text
            y += 20 if name == "event" else 24


def _straight(edge: Transition) -> Route:
    start, stop = BOXES[edge.state], BOXES[edge.next]
    points = [start.border((stop.x, stop.y)), stop.border((start.x, start.y))]
    middle = ((points[0][0] + points[1][0]) / 2, (points[0][1] + points[1][1]) / 2)
    return Route(points, (middle[0] + 12, middle[1] - 6))
