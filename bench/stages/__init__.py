"""Where the time of a request goes: microseconds by stage, with 128 in flight.

Each stage is run repeatedly by itself, on the objects of a real session. The whole is the client's
CPU time per request against the canned server, in the same process. The difference is the rest:
turns of the event loop, polling the socket, passing a reply to its request.
"""

from bench.stages.part import gates, markdown, measure
from bench.stages.work import STAGES

__all__ = ["STAGES", "gates", "markdown", "measure"]
