"""What a node does each second, whatever comes of it."""

from types import SimpleNamespace
from typing import cast

import pytest

from meshnode.turns import SWEEP_S, Turns


class Broken:
    """A guard whose list cannot be looked at, in a way that nobody has thought of."""

    def refresh(self) -> bool:
        raise RuntimeError("of all things")


@pytest.mark.patched
def test_a_look_for_silent_clients_that_fails_is_followed_by_the_next() -> None:
    due: list[float] = []
    loop = SimpleNamespace(time=lambda: 7.0, call_at=lambda when, function: due.append(when))
    node = SimpleNamespace(_loop=loop, _sweep_at=7.0, _sweep=lambda: None, _guard=Broken())
    with pytest.raises(RuntimeError, match="of all things"):
        Turns._sweep(cast("Turns", node))
    assert due == [7.0 + SWEEP_S]
