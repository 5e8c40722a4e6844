"""What a node shows of itself over HTTP: its health, whether it takes jobs, its metrics. `docs/metrics.md`."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus

import msgspec

from mesh.wire.reports import Status
from meshnode.metrics import Seen, Shown
from meshnode.web import Page

JSON = "application/json"
MISSING = "metrics need one more package: pip install 'meshnode[metrics]'\n"


async def health(status: Status) -> Page:
    """Say how the node is: 200 unless it is unhealthy. That it is said at all shows that its loop turns."""
    return _brief(status, well=status.state != "unhealthy")


async def readiness(status: Status) -> Page:
    """Say whether the node takes jobs: 200 while it runs and does not drain."""
    return _brief(status, well=status.state == "running")


def _brief(status: Status, *, well: bool) -> Page:
    brief = {
        "state": status.state,
        "why": status.why,
        "workers": {"ready": sum(worker.ready for worker in status.workers), "slots": status.slots},
        "name": status.name,
        "mesh": status.mesh,
        "uptime": status.uptime,
    }
    return Page(HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, msgspec.json.encode(brief) + b"\n", JSON)


class MetricsPage:
    """Shows what `look` sees, as Prometheus reads it; says what to install where that cannot be."""

    def __init__(self, look: Callable[[], Seen]) -> None:
        self._look = look
        self._shown: Shown | None = None
        with suppress(ImportError):
            self._shown = Shown()  # now: to import it takes too long for a loop that serves already

    async def __call__(self) -> Page:
        """Make the page as of now."""
        if self._shown is None:
            return Page(HTTPStatus.NOT_IMPLEMENTED, MISSING.encode())
        return Page(HTTPStatus.OK, await asyncio.to_thread(self._shown.text, self._look()), self._shown.kind)
