"""Where the time of a request goes: microseconds by stage, with 128 in flight.

Each stage is run by itself, on the objects that a real session has, over and over; the whole is the
client's CPU for each request against the canned server, in the same process. What no stage explains
is the rest: turns of the event loop, looking at the socket, handing a reply to its request.
"""

from bench.stages.part import gates, markdown, measure
from bench.stages.work import STAGES

__all__ = ["STAGES", "gates", "markdown", "measure"]
