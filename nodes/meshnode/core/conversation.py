"""One bridge connection: lines in, jobs and reply lines out. Pure: `docs/text-protocol.md`.

Requests without an id are owed their answers in their order; those with one are answered as they end. What the
scheduler is handed is bounded, the rest waits here, and what waits here bounds what is read. A connection may end
long before its jobs do: they run all the same, and their answers are dropped.

After each call the shell takes `events` and `output`; unless `calm` holds it also looks at `reads`, `more`, `phase` and
`next_wake`.
"""

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Final

from mesh.errors import JobCancelled, JobLost, JobTimeout, MeshBusy, MeshError, PayloadTooLarge, ProtocolError
from mesh.wire.messages import Failed, Lost, NodeItem, Reject, Result, Submit
from meshnode.core import text
from meshnode.core.events import CancelAsked, Event, Submitted
from meshnode.core.held import FOREVER, Owner
from meshnode.core.lane import Lane
from meshnode.core.limits import Limits
from meshnode.core.replies import Replies
from meshnode.core.request import MARKED, Asked, Catalogue, Desk, OpenTasks, failed, outcome
from meshnode.core.text import Lines

PARALLEL: Final = 128
"""Jobs with an id of one connection that run at once."""

ORDERED_AHEAD: Final = 256
"""Jobs without an id handed to the scheduler at once: as many short ones as one worker's queue takes."""

ORDERED_BYTES: Final = 4 << 20
PARALLEL_BYTES: Final = 64 << 20
"""Bytes of arguments handed to the scheduler at once, beyond the first job."""

READ_BYTES: Final = 4 << 20
READ_LINES: Final = 16_384
"""What may wait here before reading pauses. A caller that writes and goes is only as safe as what was read, so
this holds what its kernel and ours may hold between them."""

CROWDED_BYTES: Final = 1 << 20
"""Bytes that each connection may hold even while all together hold too many."""

PLAIN_BYTES: Final = 16 * 1024
"""Bytes of lines that come together, at most, to be taken for plain requests: the first such piece is handed
over without other bounds, more behind it only up to `ORDERED_AHEAD`."""

BURST: Final = 512
"""Lines taken in one turn, so that a flood of small ones leaves the loop to others."""

QUIET_S: Final = 0.005
HUSH_S: Final = 0.1
"""Seconds of silence for which the first reply waits on a connection that has asked for more than one thing, and
seconds for which it waits at most. A caller that writes on and closes without reading resets the connection as soon as
it has been answered, and its kernel drops what it has not sent: up to 64 KiB, which it keeps back while it is owed an
acknowledgement."""

LINGER_S = 1.0
"""Seconds for which input is read and dropped after the last line, so that no reset swallows that line."""

LOOK_S: Final = 0.25
"""Seconds between looks for requests whose time is up before they could be handed on."""

_GONE: Final = "its caller ended the connection before it started"


class Phase(Enum):
    """How far a connection has come: requests are read; input is read and dropped; it is to be closed."""

    OPEN = "open"
    LINGERING = "lingering"
    OVER = "over"


class Conversation:
    """One connection's requests. `keys` are of its two owners: for requests without an id, and for those with one.

    `calm`: nothing unusual is going on, so that only events and output are of interest. `unread` is set once the caller
    was given up because it did not read. `requests` counts its lines.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        keys: tuple[int, int],
        *,
        new_id: Callable[[], bytes],
        limits: Limits,
        draining: bool,
        now: float,
        is_open: OpenTasks = MARKED,
    ) -> None:
        self.phase = Phase.OPEN
        self.requests = 0
        self.unread = False
        self._limits = limits
        self._desk = Desk(catalogue, new_id, draining=draining, is_open=is_open)
        self._keys = keys
        self._ordered = Lane(Owner(keys[0], most=1, windowed=False), most=ORDERED_AHEAD, most_bytes=ORDERED_BYTES)
        self._parallel: Lane | None = None
        self._lanes = [self._ordered]
        self._lines = Lines(limits.line)
        self._raw: deque[bytes] = deque()
        self._raw_bytes = 0
        self._jobs: dict[bytes, Asked] = {}
        self._plain: deque[Submit] = deque()
        self._replies = Replies()
        self._events: list[Event] = []
        self._taking = True
        self._last_words: bytes | None = None
        self._ended = False
        self._shut = False
        self._paused_since: float | None = None
        self._partial_since: float | None = None
        self._active_at = self._heard_at = self._began_at = now
        self._spoken = False
        self._linger_until = FOREVER
        self.calm = self._is_calm()

    # what the shell takes

    def events(self) -> list[Event]:
        """Take what the scheduler is to be told."""
        events, self._events = self._events, []
        return events

    @property
    def speaks(self) -> bool:
        """Is there something to write, now or soon?"""
        return bool(self._replies.lines)

    def hushed(self, now: float) -> bool:
        """Is what there is to write to wait?"""
        return now < self._hush_deadline

    def output(self) -> bytes:
        """Take what is to be written."""
        self._spoken = True
        return self._replies.take()

    def _is_calm(self) -> bool:
        """Is nothing of the unusual going on: no bound reached, no line begun, no end in sight, no time limit?"""
        return (
            self._taking
            and not self._raw
            and not self._lines.pending
            and self._paused_since is None
            and not any(self._lanes)
            and not self._desk.draining
            and self._limits.idle is None
        )

    @property
    def waits_for_reader(self) -> bool:
        """Has the caller stopped reading?"""
        return self._paused_since is not None

    @property
    def held(self) -> int:
        """Bytes of input that wait here."""
        return self._lines.pending + self._read_ahead

    @property
    def pending(self) -> int:
        """Bytes of the line that has begun and not ended."""
        return self._lines.pending

    @property
    def _read_ahead(self) -> int:
        return self._raw_bytes + sum(lane.waiting_bytes for lane in self._lanes)

    def reads(self, *, crowded: bool = False) -> bool:
        """May more be read now? `crowded`: all connections together hold too much."""
        if not self._taking:
            return self.phase is Phase.LINGERING
        lines = len(self._raw) + self._replies.in_order + (len(self._parallel) if self._parallel else 0)
        return lines < READ_LINES and self._read_ahead < (CROWDED_BYTES if crowded else READ_BYTES)

    @property
    def more(self) -> bool:
        """Are there lines that `advance` would take now?"""
        return bool(self._raw) and self._paused_since is None

    @property
    def finished(self) -> bool:
        """Is the connection over, and everything that came of it?"""
        return self.phase is Phase.OVER and not self._busy

    @property
    def _busy(self) -> bool:
        """Is an answer owed, or will one be?"""
        return bool(self._plain or self._replies or self._raw)

    def next_wake(self, now: float) -> float | None:
        """When to call `tick` if nothing else happens before; None for never."""
        if self.phase is not Phase.OPEN:
            return self._linger_until if self.phase is Phase.LINGERING else None
        wake = self._unread_deadline
        if self.speaks:
            wake = min(wake, self._hush_deadline)
        if any(self._lanes):
            wake = min(wake, now + LOOK_S)
        if not self._busy:
            wake = min(wake, self._partial_deadline, self._idle_deadline)
        return None if wake == FOREVER else wake

    @property
    def _hush_deadline(self) -> float:
        """When the first words may be said to a caller that asks for more at once."""
        if self._spoken or self.requests < 2 or not self._taking:
            return 0.0
        return min(self._heard_at + QUIET_S, self._began_at + HUSH_S)

    @property
    def _unread_deadline(self) -> float:
        return FOREVER if self._paused_since is None else self._paused_since + self._limits.unread

    @property
    def _partial_deadline(self) -> float:
        """When the line that has begun takes too long. While an answer was owed reading may have been paused."""
        if self._partial_since is None:
            return FOREVER
        return max(self._partial_since, self._active_at) + self._limits.patience(self._lines.pending)

    @property
    def _idle_deadline(self) -> float:
        return FOREVER if self._limits.idle is None else self._active_at + self._limits.idle

    # what the shell tells

    def received(self, piece: bytes, now: float) -> None:
        """Bytes came."""
        if not self._taking:
            return
        self._heard_at = now
        if self.calm and not (self._replies or self._raw) and self._took_plain(piece, now):
            return
        self._file()
        lines = self._lines.feed(piece)
        if self.calm and len(lines) <= BURST and not (self._lines.pending or self._lines.stopped):
            if lines:
                self._active_at = now
            for line in lines:
                self._take(line, now)
                if not self._taking:
                    break
            self._hand_over(now)
            if any(self._lanes) or not self.calm:
                self._settle(now)
            return
        if lines:
            self._raw.extend(lines)
            self._raw_bytes += sum(map(len, lines))
            self._active_at = now
        if not self._lines.pending:
            self._partial_since = None
        elif lines or self._partial_since is None:
            self._partial_since = now
        if self._lines.stopped:
            why = f"a line may have {self._limits.line - 1} bytes here, with its end; this one is longer"
            self._stop(PayloadTooLarge, why)
        self.advance(now)

    def _took_plain(self, piece: bytes, now: float) -> bool:
        """Hand plain requests over at once, behind others of their kind or none; False if these are none."""
        jobs = self._desk.plain(piece, limit=min(self._limits.line, PLAIN_BYTES))
        if jobs is None:
            return False
        asked = self._plain
        if asked and (asked[-1].options is not jobs[0].options or len(asked) + len(jobs) > ORDERED_AHEAD):
            return False
        asked.extend(jobs)
        self.requests += len(jobs)
        self._active_at = now
        self._events.append(Submitted(self._ordered.owner, jobs, alike=True))
        return True

    def leave(self) -> bool:
        """The caller will write nothing more and is owed nothing: it is over at once, as it mostly is. False if not."""
        if not self.calm or self._busy or self.speaks:
            return False
        self._taking = self.calm = False
        self._ended = True
        self.phase = Phase.OVER
        return True

    def ended(self, now: float) -> None:
        """The caller will write nothing more; whether it still reads cannot be told."""
        self._ended = True
        if self._lines.pending:
            self._stop(ProtocolError, "the last line has no LF at its end, so it is not run")
        self._taking = self.calm = False
        self._file()
        self._drop_fragile()
        self.advance(now)

    def lost(self, now: float) -> None:
        """The connection is gone: what was read still runs, unheard."""
        if self.phase is Phase.OVER and not self._busy:
            return
        self._stop(None)
        self._file()
        self._replies.mute()
        self._ended = True
        self._paused_since = None
        self.phase = Phase.OVER
        self._drop_fragile()
        self.advance(now)

    def advance(self, now: float) -> None:
        """Take some of the lines that were read."""
        self._file()
        taken = 0
        while taken < BURST and self.more:
            line = self._raw.popleft()
            self._raw_bytes -= len(line)
            self._take(line, now)
            taken += 1
        self._hand_over(now)
        self._settle(now)

    def answer(self, items: list[NodeItem], now: float, *, plain: bool) -> bytes:
        """Take what the scheduler told one of the two owners, as `replied` does.

        Returns what is to be written where it answers all that was asked of a caller that reads, so that nothing else
        is to be done; `plain`: for the socket nothing is either.
        """
        self.replied(items, now)
        return self._replies.take() if plain and self.calm and self._spoken and not self._busy else b""

    def replied(self, items: list[NodeItem], now: float) -> None:
        """The scheduler told one of the two owners these items."""
        self._active_at = now
        if self._plain:
            items = self._answer_plain(items)
        if items:
            self._file()
        for item in items:
            if isinstance(item, (Result, Failed, Reject, Lost)):  # the others tell of progress
                asked = self._jobs.pop(item.id, None)
                if asked is not None:
                    self._lane(asked).land(asked)
                    self._replies.answer(asked, outcome(asked.tag, item))
        if not self.calm:
            self._hand_over(now)
            self._settle(now)

    def _answer_plain(self, items: list[NodeItem]) -> list[NodeItem]:
        """Answer plain requests while what comes is their results in order; return what is left."""
        asked, lines = self._plain, self._replies.lines
        result = Result
        for n, item in enumerate(items):
            if not asked or type(item) is not result or item.id != asked[0].id:
                return items[n:]
            asked.popleft()
            lines.append(item.body)
            lines.append(b"\n")
        return []

    def paused(self, now: float) -> None:
        """The caller does not read: what was written waits."""
        self._paused_since = now
        self.calm = False

    def resumed(self, now: float) -> None:
        """The caller reads again."""
        self._paused_since = None
        self.advance(now)

    def drain(self, now: float) -> None:
        """From here on the node takes nothing new: it is told of all that was read; who is owed nothing is let go."""
        self._desk.draining = True
        self.calm = False
        for lane in self._lanes:
            lane.widen()
        while self.more:
            self.advance(now)
        self._hand_over(now)
        self._say_goodbye()
        self._settle(now)

    def refuse(self, why: str, now: float, *, kind: type[MeshError] = MeshBusy) -> None:
        """Answer what was asked so far, say why there will be no more, and end."""
        self._stop(kind, why)
        self.advance(now)

    def shut(self, now: float) -> None:
        """The node stops now: whatever is still owed an answer gets one."""
        self._shut = True
        self._file()
        self._paused_since = None
        self._stop(None)
        while self.more:
            self.advance(now)
        for lane in self._lanes:
            for asked in lane.leave_out(_any):
                self._fail(asked, MeshBusy, "this node has stopped")
        for asked in list(self._jobs.values()):
            self._fail(asked, JobLost, "the node stopped before it ended", started=True)
        self._settle(now)

    def tick(self, now: float) -> None:
        """Do what is due by now."""
        self._file()
        if self.phase is not Phase.OPEN:
            if self._linger_until <= now:
                self.phase = Phase.OVER
            return
        for lane in self._lanes:
            for asked in lane.leave_out(lambda asked: asked.expires <= now):
                self._fail(asked, JobTimeout, "its time was up before its turn came")
        if self._unread_deadline <= now:
            self.unread = True
            self.lost(now)
        elif not self._busy and self._partial_deadline <= now:
            came = self._lines.pending
            self._stop(
                ProtocolError, f"the line did not end within {self._limits.patience(came):.3g} s, {came} bytes long"
            )
        elif not self._busy and self._idle_deadline <= now:
            self._stop(None)
        self.advance(now)

    # requests

    def _take(self, line: bytes, now: float) -> None:
        self.requests += 1
        if self.requests == 1 and (other := text.stranger(line)):
            self._raw.clear()
            self._raw_bytes = 0
            self._stop(ProtocolError, f"this port speaks lines of JSON, not {other}")
            return
        asked = self._desk.take(line, now, open_tags=self._replies.tags)
        if asked.submit is None:
            assert asked.answer is not None
            self._replies.say(asked.tag, asked.answer)
            return
        self._replies.expect(asked)
        if asked.fragile and self._ended:
            self._fail(asked, JobCancelled, _GONE)
        else:
            self._jobs[asked.submit.id] = asked
            self._lane(asked).join(asked)

    def _file(self) -> None:
        """Enter the plain requests into the books, now that something else happens before their answers come.

        Most callers ask and wait: for that the books need not be opened.
        """
        while self._plain:
            submit = self._plain.popleft()
            asked = Asked(None, submit, len(submit.body))
            self._replies.expect(asked)
            self._jobs[submit.id] = asked
            self._ordered.fly(asked)

    def _lane(self, asked: Asked) -> Lane:
        if asked.tag is None:
            return self._ordered
        if self._parallel is None:
            owner = Owner(self._keys[1], most=PARALLEL, windowed=False)
            self._parallel = Lane(owner, most=PARALLEL, most_bytes=PARALLEL_BYTES)
            self._lanes.append(self._parallel)
            if self._desk.draining:
                self._parallel.widen()
        return self._parallel

    def _hand_over(self, now: float) -> None:
        if self._paused_since is not None or self._shut:
            return
        for lane in self._lanes:
            if lane and (jobs := lane.depart(now)):
                self._events.append(Submitted(lane.owner, jobs))

    def _drop_fragile(self) -> None:
        """Cancel what its caller wants only as long as it is there."""
        for lane in self._lanes:
            for asked in lane.leave_out(lambda asked: asked.fragile):
                self._fail(asked, JobCancelled, _GONE)
        for job_id, asked in self._jobs.items():
            if asked.fragile:
                self._events.append(CancelAsked(self._lane(asked).owner, job_id))

    def _fail(self, asked: Asked, kind: type[MeshError], message: str, *, started: bool = False) -> None:
        self._answer(asked, failed(asked.tag, kind, message, started=started))

    def _answer(self, asked: Asked, line: bytes) -> None:
        assert asked.submit is not None
        self._jobs.pop(asked.submit.id, None)
        self._replies.answer(asked, line)

    # the end

    def _stop(self, kind: type[MeshError] | None, why: str = "") -> None:
        """Take no more input; what was asked is still answered, then an error of this kind is said."""
        self._taking = self.calm = False
        self._lines.stop()
        self._partial_since = None
        self._last_words = None if kind is None else failed(None, kind, why)

    def _say_goodbye(self) -> None:
        """While draining: end what is owed nothing and is not in the middle of a line."""
        if self._taking and not self._busy and not self._lines.pending:
            self._stop(None)

    def _settle(self, now: float) -> None:
        """See whether everything is said."""
        self.calm = self._is_calm()
        if self._raw:
            return
        if self._last_words is not None:
            self._replies.say(None, self._last_words)
            self._last_words = None
        if self._desk.draining and self.requests:
            self._say_goodbye()
        if self._taking or self._busy or self.phase is Phase.OVER:
            return
        if self._ended:
            self.phase = Phase.OVER
        elif self.phase is Phase.OPEN:
            self.phase = Phase.LINGERING
            self._linger_until = now + LINGER_S


def _any(_: Asked) -> bool:
    return True
