"""What each error answers, and what a caller sees of a failure."""

import builtins
import copy
import inspect
import pickle
from typing import Any

import pytest

from mesh import errors
from mesh.errors import (
    BY_NAME,
    BadArguments,
    ClosedError,
    ConfigError,
    Failure,
    JobCancelled,
    JobLost,
    JobTimeout,
    MeshBusy,
    MeshError,
    NoNodes,
    NotAllowed,
    PayloadTooLarge,
    ProtocolError,
    RemoteError,
    ResultNotSerializable,
    UnknownTask,
    capped,
)

# May I retry, and did it run?


@pytest.mark.parametrize(
    ("cls", "retryable", "started"),
    [
        (MeshError, False, None),
        (ConfigError, False, None),
        (ClosedError, False, None),
        (ProtocolError, False, None),
        (NoNodes, True, False),
        (UnknownTask, False, False),
        (MeshBusy, True, False),
        (BadArguments, False, False),
        (PayloadTooLarge, False, False),
        (ResultNotSerializable, False, True),
        (NotAllowed, False, False),
        (JobTimeout, True, True),
        (JobCancelled, False, False),
        (JobLost, True, True),
    ],
)
def test_every_error_answers_whether_to_retry_and_whether_it_ran(
    cls: type[MeshError], retryable: bool, started: bool | None
) -> None:
    error = cls("why")
    assert (error.retryable, error.started) == (retryable, started)
    assert str(error) == "why"


def test_one_error_may_know_better_than_its_class_whether_it_ran() -> None:
    assert JobTimeout("in the backlog", started=False).started is False
    assert MeshError("who knows", started=True).started is True
    assert JobTimeout.started is True
    assert MeshError.started is None


def test_an_error_may_have_no_message() -> None:
    assert str(MeshBusy()) == ""


def test_a_job_timeout_is_a_timeout_error() -> None:
    with pytest.raises(TimeoutError, match="30 s are up"):
        raise JobTimeout("30 s are up")


def test_every_error_but_two_travels_under_its_name() -> None:
    ours = {cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, MeshError)}
    assert ours - set(BY_NAME.values()) == {MeshError, RemoteError}
    assert all(name == cls.__name__ for name, cls in BY_NAME.items())


def test_the_tree_at_the_top_of_the_module_names_every_error() -> None:
    drawn = [line.split()[1] for line in (errors.__doc__ or "").splitlines() if "──" in line]
    assert drawn == [*BY_NAME, "RemoteError"]


@pytest.mark.parametrize("cls", BY_NAME.values())
def test_errors_can_be_copied_and_pickled(cls: type[MeshError]) -> None:
    for again in both_copies(cls("why", started=True)):
        assert type(again) is cls
        assert (str(again), again.started) == ("why", True)


def both_copies(error: Any) -> tuple[Any, Any]:
    return copy.copy(error), pickle.loads(pickle.dumps(error))


# The task raised


def test_a_remote_error_says_type_and_message_then_the_traceback_of_the_node() -> None:
    error = RemoteError("shop.OutOfStock", "no pears", "Traceback …\n  in pick\n\n")
    assert str(error) == "shop.OutOfStock: no pears\n\nOn the node:\nTraceback …\n  in pick"
    assert (error.type, error.message, error.started) == ("shop.OutOfStock", "no pears", True)


def test_a_remote_error_without_message_or_traceback_is_its_type() -> None:
    assert str(RemoteError("shop.OutOfStock", "")) == "shop.OutOfStock"


def test_a_remote_error_can_be_copied_and_pickled() -> None:
    error = RemoteError("shop.OutOfStock", "no pears", "Traceback …")
    error.add_note("at the market")
    for again in both_copies(error):
        assert type(again) is RemoteError
        assert (again.type, again.message, again.traceback) == (error.type, error.message, error.traceback)
        assert str(again) == str(error)
        assert again.__notes__ == ["at the market"]


# What a caller sees of a failure


@pytest.mark.parametrize("name", BY_NAME)
def test_an_error_of_the_mesh_comes_back_as_itself(name: str) -> None:
    error = Failure(name, "why", mesh=True, started=False).to_exception()
    assert type(error) is BY_NAME[name]
    assert str(error) == "why"
    assert error.started is False


@pytest.mark.parametrize("name", ["Unheard", "RemoteError", "MeshError", "ValueError", ""])
def test_an_error_of_the_mesh_that_is_not_known_here_is_a_mesh_error(name: str) -> None:
    error = Failure(name, "why", mesh=True).to_exception()
    assert type(error) is MeshError
    assert str(error) == "why"
    assert error.started is True


def test_an_error_named_as_one_of_the_mesh_but_raised_by_the_task_is_remote() -> None:
    assert type(Failure("JobLost", "a class of the application").to_exception()) is RemoteError


@pytest.mark.parametrize(
    "raised",
    [
        ValueError("no"),
        ValueError(),
        KeyError("x"),
        KeyError(("a", 1)),
        IndexError("list index out of range"),
        ZeroDivisionError("division by zero"),
        TimeoutError("too slow"),
        OSError(28, "No space left on device"),
        FileNotFoundError(2, "No such file or directory"),
        RuntimeError("one", 2, None),
        NotImplementedError(),
        DeprecationWarning("old"),
    ],
    ids=repr,
)
def test_a_built_in_comes_back_as_that_built_in_with_the_remote_one_as_its_cause(
    raised: Exception,
) -> None:
    name = type(raised).__name__
    error = Failure(name, str(raised), traceback="Traceback …", args=raised.args).to_exception()
    assert type(error) is type(raised)
    assert error.args == raised.args
    assert str(error) == str(raised)
    cause = error.__cause__
    assert isinstance(cause, RemoteError)
    assert (cause.type, cause.message, cause.traceback) == (name, str(raised), "Traceback …")


def test_an_os_error_keeps_its_number() -> None:
    error = Failure("OSError", "[Errno 28] full", args=(28, "full")).to_exception()
    assert isinstance(error, OSError)
    assert (error.errno, error.strerror) == (28, "full")


def test_a_built_in_whose_arguments_did_not_travel_is_made_of_its_message() -> None:
    error = Failure("ValueError", "no").to_exception()
    assert type(error) is ValueError
    assert error.args == ("no",)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        pytest.param("UnicodeDecodeError", None, id="takes five arguments, not a message"),
        pytest.param("UnicodeDecodeError", ("utf-8",), id="takes five arguments, not one"),
        pytest.param("ExceptionGroup", ("several", []), id="takes exceptions, not none"),
        pytest.param("ExceptionGroup", ("several", [1]), id="takes exceptions, not numbers"),
        pytest.param("StopIteration", ("value",), id="would end a generator in silence"),
        pytest.param("StopAsyncIteration", (), id="would end an asynchronous generator in silence"),
        pytest.param("SystemExit", (0,), id="would end the caller"),
        pytest.param("KeyboardInterrupt", (), id="nobody pressed a key here"),
        pytest.param("GeneratorExit", (), id="would close a generator"),
        pytest.param("shop.OutOfStock", ("pears", 3), id="the application's own"),
        pytest.param("OutOfStock", (), id="a name that is none of the built-ins"),
        pytest.param("print", ("shouted",), id="a built-in that is no class"),
        pytest.param("int", ("3",), id="a built-in that is no exception"),
        pytest.param("__name__", None, id="an attribute of the module"),
        pytest.param("", None, id="no name"),
        pytest.param("\ud800", None, id="no text"),
    ],
)
def test_what_cannot_or_must_not_be_raised_again_is_a_remote_error(name: str, args: tuple[Any, ...] | None) -> None:
    error = Failure(name, "why", traceback="Traceback …", args=args).to_exception()
    assert type(error) is RemoteError
    assert (error.type, error.message, error.traceback) == (name, "why", "Traceback …")


@pytest.mark.parametrize(
    "args",
    [None, (), ("m",), ("m", 1), ("m", []), (1, "m"), ("m", (1,)), ("m", ("f", 1, 2, 3)), (None,) * 6],
    ids=repr,
)
def test_whatever_a_failure_names_ends_in_an_exception(args: tuple[Any, ...] | None) -> None:
    for name in dir(builtins):
        error = Failure(name, "m", args=args).to_exception()
        assert isinstance(error, Exception)
        assert isinstance(str(error), str)
        assert isinstance(repr(error), str)


# Long texts


def test_a_text_within_the_limit_stays_whole() -> None:
    assert capped("x" * 100, 100) == "x" * 100
    assert capped("", 0) == ""


def test_a_longer_text_loses_its_middle_and_says_how_much() -> None:
    assert capped("a" * 60 + "b" * 60, 100) == "a" * 50 + "\n… 20 characters left out …\n" + "b" * 50
    assert capped("a" * 60 + "b" * 61, 101) == "a" * 50 + "\n… 21 characters left out …\n" + "b" * 50
