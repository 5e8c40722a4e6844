"""From start to exit code."""

from meshnode.core.lifecycle import ExitCode, Lifecycle, State


def test_a_node_that_ends_within_its_grace_exits_clean() -> None:
    life = Lifecycle()
    life.running()
    assert life.state is State.RUNNING
    assert life.stop_asked() is False
    assert life.state is State.DRAINING
    assert life.stopped() == ExitCode.CLEAN
    assert life.state is State.STOPPED


def test_a_second_signal_means_now_and_an_exceeded_grace_shows() -> None:
    life = Lifecycle()
    life.stop_asked()
    assert life.stop_asked() is True
    life.grace_over()
    assert life.stopped() == ExitCode.GRACE_EXCEEDED


def test_workers_that_are_ready_too_late_do_not_end_the_draining() -> None:
    life = Lifecycle()
    life.stop_asked()
    life.running()
    assert life.state is State.DRAINING
