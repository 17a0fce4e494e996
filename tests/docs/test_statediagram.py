"""The state diagram of the handshake has exactly the entries of the table.

The tests read the diagram as a reader does: the boxes, the ends of each line, and the text beside
it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

from cqlproto import ClientConnection, Opcode
from cqlproto._state import HANDSHAKE, OPENS_SEGMENTS, REPLIES, RESULTS, State
from docs.directives import replies
from docs.statediagram import BOXES, ROUTES, SIZE, draw
from tests.docs.pages import DOCS

if TYPE_CHECKING:
    import pytest

SVG = "{http://www.w3.org/2000/svg}"


class Rect(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def has_on_its_border(self, x: float, y: float) -> bool:
        inside = self.left <= x <= self.right and self.top <= y <= self.bottom
        return inside and (x in (self.left, self.right) or y in (self.top, self.bottom))


def rects(root: ElementTree.Element) -> dict[State, Rect]:
    found = {}
    for group in root.iterfind(f"{SVG}g[@class='state']"):
        rect, text = group.find(f"{SVG}rect"), group.find(f"{SVG}text")
        assert rect is not None
        assert text is not None
        x, y, width, height = (float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
        found[State(text.text)] = Rect(x, y, x + width, y + height)
        assert x < float(text.attrib["x"]) < x + width
        assert y < float(text.attrib["y"]) < y + height
    return found


def edges(root: ElementTree.Element) -> set[tuple[State, str, str, State, bool]]:
    """Return (state, event, action, next state, whether the line is thick) of all lines."""
    boxes = rects(root)

    def state_at(x: float, y: float) -> State:
        [state] = [state for state, rect in boxes.items() if rect.has_on_its_border(x, y)]
        return state

    found = set()
    for group in root.iterfind(f"{SVG}g"):
        if "transition" not in group.attrib["class"].split():
            continue
        path = group.find(f"{SVG}path")
        assert path is not None
        assert path.attrib["marker-end"] == "url(#tip)"
        numbers = [float(text) for text in re.findall(r"-?[\d.]+", path.attrib["d"])]
        first, last = state_at(*numbers[:2]), state_at(*numbers[-2:])
        events = [text.text or "" for text in group.iterfind(f"{SVG}text[@class='event']")]
        actions = [text.text or "" for text in group.iterfind(f"{SVG}text[@class='action']")]
        for event, action in zip(events, actions, strict=True):
            found.add((first, event, action, last, float(path.attrib["stroke-width"]) > 1))
    return found


def expected() -> set[tuple[State, str, str, State, bool]]:
    table = {
        (
            state,
            opcode.name,
            action.value,
            after,
            state is State.STARTUP_SENT and opcode in OPENS_SEGMENTS,
        )
        for (state, opcode), (action, after) in HANDSHAKE.items()
    }
    return {*table, (State.NEW, "initiate()", "send OPTIONS", State.OPTIONS_SENT, False)}


def test_it_shows_the_table() -> None:
    assert edges(ElementTree.fromstring(draw())) == expected()


def test_it_begins_as_a_connection_does() -> None:
    connection = ClientConnection()
    states = [connection.state]
    connection.initiate()
    states.append(connection.state)
    assert states == [State.NEW, State.OPTIONS_SENT]
    assert connection.data_to_send()[4] == Opcode.OPTIONS


def test_an_entry_that_is_new_or_gone_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = edges(ElementTree.fromstring(draw()))
    (gone, value), *rest = HANDSHAKE.items()
    changed = dict(rest)
    changed[State.STARTUP_SENT, Opcode.AUTH_SUCCESS] = (value[0], State.READY)
    changed[State.NEW, Opcode.READY] = (value[0], State.READY)
    monkeypatch.setattr("docs.statediagram.HANDSHAKE", changed)
    after = edges(ElementTree.fromstring(draw()))
    assert {edge[:2] for edge in before - after} >= {(gone[0], gone[1].name)}
    # The second shares a thick line with READY; the third has no route in ROUTES.
    assert {edge[:4] for edge in after - before} == {
        (State.STARTUP_SENT, "AUTH_SUCCESS", value[0].value, State.READY),
        (State.NEW, "READY", value[0].value, State.READY),
    }


def test_it_keeps_within_its_frame_and_its_boxes_apart() -> None:
    boxes = list(rects(ElementTree.fromstring(draw())).values())
    width, height = SIZE
    for rect in boxes:
        assert 0 <= rect.left < rect.right <= width
        assert 0 <= rect.top < rect.bottom <= height
    for number, one in enumerate(boxes):
        for other in boxes[number + 1 :]:
            apart = one.right < other.left or other.right < one.left
            assert apart or one.bottom < other.top or other.bottom < one.top
    points = [point for route in ROUTES.values() for point in route.points]
    assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
    assert {state for edge in ROUTES for state in edge} <= set(BOXES)


def test_the_table_of_replies_is_that_of_the_package() -> None:
    shown = {request: set(names.split(", ")) for request, names in replies()}
    assert list(shown) == [request.name for request in REPLIES]
    for request, codes in REPLIES.items():
        kinds = {f"RESULT ({kind.__name__})" for kind in RESULTS.get(request, ())}
        others = {Opcode(code).name for code in codes} - {"RESULT"}
        assert shown[request.name] == kinds | others
        assert bool(kinds) == (Opcode.RESULT in codes)


def test_the_page_has_both() -> None:
    text = (DOCS / "protocol.md").read_text()
    assert text.count("```{state-diagram}") == text.count("```{replies-table}") == 1
