"""Log lines that strangers can cause."""

import logging

import pytest

from mesh.seldom import EVERY_S, MOST, Seldom

log = logging.getLogger("test.seldom")


def test_the_same_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    seldom = Seldom(log)
    for _ in range(5):
        seldom.warn("10.0.0.9", "somebody at %s", "10.0.0.9")
    assert caplog.messages == ["somebody at 10.0.0.9"]


def test_beyond_so_many_only_their_number_is_said_and_seldom(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 5.0  # of a host that has just booted
    monkeypatch.setattr("time.monotonic", lambda: now)
    seldom = Seldom(log)
    for n in range(1000):
        seldom.warn(str(n), "somebody at %d", n)
    assert caplog.messages[:MOST] == [f"somebody at {n}" for n in range(MOST)]
    assert caplog.messages[MOST:] == [f"and 1 more of the kind, the last one: somebody at {MOST}"]
    now += EVERY_S
    seldom.warn("one more", "somebody at %s", "100 %")
    assert caplog.messages[MOST + 1 :] == [f"and {1001 - MOST} more of the kind, the last one: somebody at 100 %"]
    seldom.warn("0", "somebody at %d", 0)
    assert len(caplog.messages) == MOST + 2
