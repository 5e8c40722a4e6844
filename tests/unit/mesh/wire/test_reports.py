"""Reports that nodes give: they fit an answer, and people can name jobs."""

import pytest

from mesh.wire.messages import ANSWER_BYTES
from mesh.wire.reports import (
    TEXT_BYTES,
    ClientReport,
    Connections,
    JobReport,
    Jobs,
    Report,
    Status,
    WorkerStatus,
    Wrong,
    cut,
    decode_report,
    decode_wrong,
    is_meant,
    packed,
    short,
)

JOB = "d95f80c2a1b0ffee00000000000001af"


def many_jobs(count: int) -> Jobs:
    return Jobs([JobReport(id=f"{n:032x}", task="send_mail", state="waiting", elapsed=1.0) for n in range(count)], 5)


def test_a_report_that_fits_arrives_as_it_is() -> None:
    report = Report(jobs=many_jobs(3))
    assert decode_report(packed(report)) == report
    assert decode_report(packed(Report())) == Report()


def test_a_list_that_is_too_long_is_cut_and_says_how_much_is_left_out() -> None:
    body = packed(Report(jobs=many_jobs(10_000)))
    jobs = decode_report(body).jobs
    assert jobs is not None
    assert ANSWER_BYTES // 2 < len(body) <= ANSWER_BYTES
    assert len(jobs.jobs) + jobs.left_out == 10_005
    assert jobs.jobs == many_jobs(10_000).jobs[: len(jobs.jobs)]


def test_workers_and_clients_are_cut_too() -> None:
    workers = [WorkerStatus(slot=n, pid=n, ready=True, age=1.0, outstanding=0) for n in range(4096)]
    status = Status(name="web7", id="0" * 32, mesh="default", state="running", pid=1, uptime=1.0, workers=workers)
    found = decode_report(packed(Report(status=status))).status
    assert found is not None
    assert len(found.workers) + found.left_out == 4096
    clients = Connections([ClientReport(name="x" * 200) for _ in range(2000)])
    told = decode_report(packed(Report(connections=clients))).connections
    assert told is not None
    assert len(told.clients) + told.left_out == 2000


def test_a_report_that_cannot_be_cut_is_left_out_whole() -> None:
    status = Status(name="x" * ANSWER_BYTES, id="", mesh="", state="", pid=0, uptime=0.0)
    assert decode_report(packed(Report(status=status))) == Report()


def test_what_is_wrong_arrives_as_it_is() -> None:
    wrong = Wrong("NotAllowed", "no")
    assert decode_wrong(packed(wrong)) == wrong


def test_a_text_is_cut_by_its_bytes_and_says_so() -> None:
    assert cut("short") == "short"
    long = cut("ä" * TEXT_BYTES)
    assert long.endswith("\n… (cut)")
    assert len(long.encode()) <= TEXT_BYTES + 20


def test_a_job_is_shown_by_its_beginning_and_its_number() -> None:
    assert short(JOB) == "d95f80-1af"
    assert short("d95f80" + "0" * 26) == "d95f80-0"


@pytest.mark.parametrize("word", [JOB, "d95f", "D95F80-1AF", "d95f80c2-1af", "d95f80-1af"])
def test_a_word_means_a_job(word: str) -> None:
    assert is_meant(word, JOB)


@pytest.mark.parametrize("word", ["", "d95f81", "d95f80-1a", "e-1af", "1af"])
def test_a_word_means_no_other_job(word: str) -> None:
    assert not is_meant(word, JOB)
