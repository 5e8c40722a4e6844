"""Jobs a second, from two looks at a node's counts."""

from mesh.core.rates import Rate, Rates
from mesh.wire.reports import Status


def looked(*, done: int, failed: int = 0, lost: int = 0, pid: int = 1) -> Status:
    return Status(
        name="web7", id="0" * 32, mesh="default", state="running", pid=pid, uptime=1.0, done=done, failed=failed,
        lost=lost,
    )  # fmt: skip


def test_the_first_look_tells_no_rate_and_the_second_what_ended_between() -> None:
    rates = Rates()
    assert rates.of(looked(done=10), 1.0) is None
    assert rates.of(looked(done=30, failed=3, lost=1), 3.0) == Rate(ended=12.0, failed=2.0)


def test_a_node_that_was_started_anew_counts_from_nothing() -> None:
    rates = Rates()
    rates.of(looked(done=1000), 1.0)
    assert rates.of(looked(done=5, pid=2), 2.0) is None


def test_two_looks_at_one_moment_tell_nothing() -> None:
    rates = Rates()
    rates.of(looked(done=1), 1.0)
    assert rates.of(looked(done=2), 1.0) is None
