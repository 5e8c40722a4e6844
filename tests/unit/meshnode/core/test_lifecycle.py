"""A node's life from start to exit code."""

from itertools import product

import pytest

from meshnode.core.lifecycle import TRANSITIONS, ExitCode, Lifecycle, State, Word


def life_in(state: State) -> Lifecycle:
    """Return a life that has come to a state by words."""
    ways = {
        State.STARTING: (),
        State.RUNNING: (Word.READY,),
        State.PAUSED: (Word.READY, Word.PAUSE),
        State.DRAINING: (Word.READY, Word.DRAIN),
        State.STOPPING: (Word.READY, Word.STOP),
        State.STOPPED: (Word.READY, Word.STOP, Word.ENDED),
    }
    life = Lifecycle()
    for word in ways[state]:
        assert life.hear(word)
    assert life.state is state
    return life


# fmt: off
TABLE = {
    #                ready    pause    resume   drain     undrain  stop      ended
    State.STARTING: ("running",  "",       "",       "",         "",        "stopping", "stopped"),
    State.RUNNING:  ("",         "paused", "",       "draining", "",        "stopping", ""),
    State.PAUSED:   ("",         "",       "running", "draining", "running", "stopping", ""),
    State.DRAINING: ("",         "",       "",       "",         "running", "stopping", ""),
    State.STOPPING: ("",         "",       "",       "",         "",        "",         "stopped"),
    State.STOPPED:  ("",         "",       "",       "",         "",        "",         ""),
}
"""What each word makes of each state, in the order of `Word`; nothing where it changes nothing."""
# fmt: on


@pytest.mark.parametrize(("state", "word"), list(product(State, Word)), ids=lambda one: one.name.lower())
def test_a_word_makes_of_a_state_what_the_table_says(state: State, word: Word) -> None:
    life = life_in(state)
    after = TABLE[state][list(Word).index(word)]
    assert life.hear(word) is bool(after)
    assert life.state is (State(after) if after else state)


def test_every_state_has_its_row() -> None:
    assert set(TRANSITIONS) == set(State)


def test_cont_takes_back_what_tstp_did_and_not_what_the_verb_did() -> None:
    for words, state in (
        ((Word.PAUSE, Word.RESUME), State.RUNNING),
        ((Word.DRAIN, Word.RESUME), State.DRAINING),
        ((Word.PAUSE, Word.DRAIN, Word.RESUME), State.DRAINING),
        ((Word.DRAIN, Word.PAUSE, Word.RESUME), State.DRAINING),
        ((Word.PAUSE, Word.UNDRAIN), State.RUNNING),
    ):
        life = life_in(State.RUNNING)
        for word in words:
            life.hear(word)
        assert life.state is state, words


@pytest.mark.parametrize(
    ("state", "draining", "settled"),
    [
        (State.STARTING, False, False),
        (State.RUNNING, False, True),
        (State.PAUSED, True, True),
        (State.DRAINING, True, True),
        (State.STOPPING, False, False),
        (State.STOPPED, False, False),
    ],
)
def test_only_a_node_that_has_started_and_does_not_stop_can_be_drained(
    state: State, draining: bool, settled: bool
) -> None:
    life = life_in(state)
    assert (life.draining, life.settled) == (draining, settled)


@pytest.mark.parametrize(
    ("state", "workers", "shown"),
    [
        (State.STARTING, 0, ("starting", "")),
        (State.RUNNING, 1, ("running", "")),
        (State.RUNNING, 0, ("unhealthy", "no worker is ready")),
        (State.PAUSED, 1, ("draining", "told by TSTP; CONT or undrain takes it back")),
        (State.DRAINING, 0, ("draining", "told by drain; undrain takes it back")),
        (State.STOPPING, 1, ("stopping", "")),
        (State.STOPPED, 0, ("stopped", "")),
    ],
)
def test_people_read_the_state_and_why(state: State, workers: int, shown: tuple[str, str]) -> None:
    assert life_in(state).shown(workers=workers) == shown


@pytest.mark.parametrize("state", State)
def test_what_keeps_a_node_from_having_workers_is_said_while_it_is_to_have_some(state: State) -> None:
    told = life_in(state).shown(workers=0, unhealthy="it does not import") == ("unhealthy", "it does not import")
    assert told is (state in (State.STARTING, State.RUNNING))


def test_a_node_that_is_asked_to_stop_ends_cleanly() -> None:
    life = Lifecycle()
    life.running()
    assert not life.stop_asked()
    assert life.stopped() == ExitCode.CLEAN
    assert life.state is State.STOPPED


def test_the_second_signal_means_now_and_so_does_each_further_one() -> None:
    life = life_in(State.RUNNING)
    assert [life.stop_asked() for _ in range(3)] == [False, True, True]


def test_the_first_signal_after_the_verb_does_not_mean_now() -> None:
    life = life_in(State.STOPPING)
    assert [life.stop_asked() for _ in range(2)] == [False, True]


def test_workers_that_are_ready_after_a_signal_do_not_make_the_node_run_again() -> None:
    life = Lifecycle()
    states = []
    for end in (life.stop_asked, life.stopped):
        end()
        life.running()
        states.append(life.state)
    assert states == [State.STOPPING, State.STOPPED]


def test_a_node_whose_grace_was_not_enough_says_so_at_its_end() -> None:
    life = life_in(State.STOPPING)
    life.grace_over()
    assert life.stopped() == ExitCode.GRACE_EXCEEDED


def test_each_exit_code_says_something_else() -> None:
    codes = [value for name, value in vars(ExitCode).items() if name.isupper()]
    assert len(set(codes)) == len(codes) == 6
    assert ExitCode.CLEAN == 0
