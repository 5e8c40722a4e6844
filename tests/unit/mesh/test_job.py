"""A job in the hands of the application, without a node."""

import asyncio
import logging
import sys
import weakref
from typing import Any, cast

import pytest

from mesh.errors import Failure, JobLost, RemoteError
from mesh.job import Ended, Job
from mesh.wire.messages import RUNNING, Failed, Result
from mesh.wire.payload import pack, pack_failure

JOB_ID = bytes(16)


class FakeClient:
    """Gives jobs a loop, and notes what is cancelled."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.cancelled: list[Job] = []

    def cancel(self, job: Job, how: int) -> None:
        assert how == RUNNING
        self.cancelled.append(job)

    def keep(self, job: Job) -> None:
        raise NotImplementedError


def a_job() -> Job:
    return Job(FakeClient(), JOB_ID, "add", b"args")


def end(job: Job, outcome: Result | Failed | JobLost) -> None:
    job.over = True
    job.finish(outcome)


def failed(message: str) -> Failed:
    return Failed(JOB_ID, 1, pack_failure(Failure("app.Odd", message)))


async def test_the_id_of_a_clients_job_is_put_together_from_what_they_all_share_and_its_number() -> None:
    assert a_job().id == JOB_ID
    assert Job(FakeClient(), b"together", "add", b"", 258).id == b"together" + bytes(6) + b"\1\2"
    assert Job(FakeClient(), b"together", "add", b"", 0).id == b"together" + bytes(8)


async def test_what_few_jobs_have_is_one_jobs_alone_once_it_is_written() -> None:
    job, other = a_job(), a_job()
    assert job.extras is other.extras
    job.own_extras().timeout = 2.0
    assert (job.extras.timeout, other.extras.timeout) == (2.0, None)
    assert job.own_extras() is job.extras


async def test_a_result_is_given_to_all_who_ask_before_and_after() -> None:
    job = a_job()
    early = asyncio.ensure_future(job.result())
    await asyncio.sleep(0)
    end(job, Result(JOB_ID, 1, pack([1, 2])))
    assert await early == await job == [1, 2]
    assert job.body == b"", "arguments are not kept once they are of no use"


@pytest.mark.parametrize("outcome", [failed("no"), JobLost("gone", started=True)])
async def test_an_error_that_was_raised_is_not_kept_by_its_job(outcome: Failed | JobLost) -> None:
    job = a_job()
    end(job, outcome)
    seen = []
    for _ in range(2):
        try:
            await job
        except (RemoteError, JobLost) as error:
            seen.append((weakref.ref(error), getattr(error, "started", None)))
    assert [started for _, started in seen] == [True, True]
    assert all(error() is None for error, _ in seen), "else each would keep the frames of whoever asked, for good"


async def test_a_failure_that_nobody_asked_for_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        asked, unasked = a_job(), a_job()
        end(asked, failed("seen"))
        end(unasked, failed("secret"))
        with pytest.raises(RemoteError):
            await asked
        del asked, unasked
    (told,) = caplog.records
    assert "with app.Odd" in told.getMessage()
    assert "secret" not in told.getMessage(), "a failure's text may quote what the job was given"


async def test_an_await_that_is_cancelled_cancels_the_job_if_it_was_the_last() -> None:
    job = a_job()
    client = cast(FakeClient, job._client)
    first, second = (asyncio.ensure_future(wait_for(job)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    assert client.cancelled == []
    second.cancel()
    await asyncio.sleep(0)
    assert client.cancelled == [job]


async def wait_for(job: Job) -> Any:
    return await job


async def test_what_a_map_did_not_wait_for_keeps_nothing_alive() -> None:
    job = a_job()
    ended = Ended(asyncio.get_running_loop())
    holders = sys.getrefcount(ended)
    job._ended = ended
    end(job, Result(JOB_ID, 1, pack(1)))
    assert list(ended.jobs) == [job]
    assert sys.getrefcount(ended) == holders, "a job that is over would keep it, and it the job: a circle"
