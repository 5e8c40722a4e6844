"""A node's life from start to exit code."""

from meshnode.core.lifecycle import ExitCode, Lifecycle, State


def test_a_node_starts_runs_drains_and_stops_cleanly() -> None:
    life = Lifecycle()
    states = [life.state]
    life.running()
    states.append(life.state)
    assert not life.stop_asked()
    states.append(life.state)
    assert life.stopped() == ExitCode.CLEAN
    assert [*states, life.state] == [State.STARTING, State.RUNNING, State.DRAINING, State.STOPPED]


def test_the_second_signal_means_now_and_so_does_each_further_one() -> None:
    life = Lifecycle()
    life.running()
    assert [life.stop_asked() for _ in range(3)] == [False, True, True]
    assert life.asked == 3


def test_workers_that_are_ready_after_a_signal_do_not_make_the_node_run_again() -> None:
    life = Lifecycle()
    states = []
    for end in (life.stop_asked, life.stopped):
        end()
        life.running()
        states.append(life.state)
    assert states == [State.DRAINING, State.STOPPED]


def test_a_node_whose_grace_was_not_enough_says_so_at_its_end() -> None:
    life = Lifecycle()
    life.running()
    life.stop_asked()
    life.grace_over()
    assert life.stopped() == ExitCode.GRACE_EXCEEDED


def test_each_exit_code_says_something_else() -> None:
    codes = [value for name, value in vars(ExitCode).items() if name.isupper()]
    assert len(set(codes)) == len(codes) == 5
    assert ExitCode.CLEAN == 0
