"""A client's session at a desk: told what happens, step by step, and what it ordered is kept."""

import random
from collections.abc import Sequence
from typing import Any

from mesh.core.effects import Close, Effect, Send, Settle
from mesh.core.events import Event, Heard, Opening, Submitted, Tick
from mesh.core.record import Extras, JobRecord
from mesh.core.session import Session
from mesh.errors import MeshError
from mesh.wire.messages import About, Failed, NodeItem, NodeMessage, Parameter, Result, Submit, TaskSpec, Welcome

ADD = TaskSpec("add", [Parameter("a", 1, True), Parameter("b", 1, False)])
MUL = TaskSpec("mul", [])
GRACE = 2.0


def node_id(number: int) -> str:
    return f"{number:032x}"


class Desk:
    """A session, and what came of what it was told."""

    def __init__(self, *, not_node: str = "", grace: float = GRACE, rng: random.Random | None = None) -> None:
        self.session = Session(rng or random.Random(1), grace=grace, not_node=not_node)
        self.now = 0.0
        self.outcomes: dict[bytes, Result | Failed | MeshError] = {}
        self.effects: list[Effect] = []
        self.taken: dict[int, int] = {}
        self._last = 0

    def tell(self, *events: Event) -> list[Effect]:
        self.effects = self.session.handle(events, self.now)
        for effect in self.effects:
            if isinstance(effect, Settle):
                for record, outcome in effect.outcomes:
                    assert record.id not in self.outcomes
                    self.outcomes[record.id] = outcome
        return self.effects

    def at(self, now: float) -> list[Effect]:
        self.now = now
        return self.tell(Tick())

    def live_until(self, now: float) -> list[Effect]:
        """Let time pass beat by beat, as the alarm asks for."""
        passed: list[Effect] = []
        while (wake := self.session.next_wake()) is not None and wake <= now:
            passed += self.at(max(wake, self.now))
        return passed + self.at(now)

    def hear(self, key: int, *items: NodeItem, free: int = 4, window: int = 10, stamp: int = 0) -> list[Effect]:
        return self.tell(Heard(key, NodeMessage(free, free, window, self.taken.get(key, 0), stamp, list(items))))

    def join(
        self,
        key: int,
        *tasks: TaskSpec,
        number: int | None = None,
        epoch: bytes = b"epoch---",
        window: int = 10,
        max_body: int = 1000,
    ) -> list[Effect]:
        self.tell(Opening(key))
        about = About(node_id(number or key), epoch, f"n{key}", "default", 4, 1, max_body, list(tasks or (ADD,)))
        return self.hear(key, Welcome(1, about), window=window)

    def job(self, task: str = "add", **fields: Any) -> JobRecord:
        self._last += 1
        record = JobRecord(self._last.to_bytes(16, "big"), task, fields.pop("body", b"args"))
        for name, value in fields.items():
            setattr(record.own_extras() if hasattr(Extras, name) else record, name, value)
        return record

    def submit(self, task: str = "add", **fields: Any) -> JobRecord:
        record = self.job(task, **fields)
        self.tell(Submitted([record]))
        return record

    def sent(self, key: int) -> list[Submit]:
        return [item for item in self.said(key) if isinstance(item, Submit)]

    def said(self, key: int) -> Sequence[object]:
        return [i for effect in self.effects if isinstance(effect, Send) and effect.key == key
                for i in effect.message.items]  # fmt: skip

    def closed(self) -> list[int]:
        return [effect.key for effect in self.effects if isinstance(effect, Close)]

    def left(self) -> list[int]:
        return [effect.key for effect in self.effects if isinstance(effect, Close) and effect.goodbye]

    def outcome(self, record: JobRecord) -> Result | Failed | MeshError:
        return self.outcomes[record.id]

    def error(self, record: JobRecord) -> MeshError:
        outcome = self.outcomes[record.id]
        assert isinstance(outcome, MeshError)
        return outcome
