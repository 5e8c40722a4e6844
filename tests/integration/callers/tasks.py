"""Tasks for callers of the bridge; what has to be counted is written to a file, a line a job."""

import os
import time
from pathlib import Path
from typing import Any

import mesh


@mesh.task(bridge=True)
def add(a: int, b: int = 0) -> int:
    return a + b


@mesh.task(bridge=True)
def echo(*args: Any, **kwargs: Any) -> dict[str, Any]:
    return {"args": args, "kwargs": kwargs}


@mesh.task(bridge=True)
def send_mail(from_: str, to: str, contents: str = "") -> str:
    return f"{from_} -> {to}: {contents}"


@mesh.task(bridge=True)
def note(path: str, text: str = "", pad: str = "") -> str:  # pad makes a line as long as is wanted
    """Append a line to a file, in one write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{text}\n".encode())
    finally:
        os.close(descriptor)
    return text


@mesh.task(bridge=True)
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@mesh.task(bridge=True)
def wait_for(path: str) -> None:
    """Return once a file is there, or after 30 s."""
    deadline = time.monotonic() + 30
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.005)


@mesh.task(bridge=True)
def meet(folder: str, count: int) -> int:
    """Return the process once this many run here at the same time, or raise after 20 s."""
    place = Path(folder)
    place.mkdir(exist_ok=True)
    (place / str(os.getpid())).touch()
    deadline = time.monotonic() + 20
    while (here := len(list(place.iterdir()))) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{here} of {count} came")
        time.sleep(0.005)
    return os.getpid()


@mesh.task(bridge=True)
def die() -> None:
    os._exit(7)


@mesh.task(bridge=True)
def unwritable() -> Any:
    return {1: object()}


@mesh.task(bridge=True)
def raise_value_error(text: str) -> None:
    raise ValueError(text)


@mesh.task(bridge=True)
def long(size: int) -> str:
    return "x" * size


@mesh.task
def not_for_plain_sockets() -> None:
    """Without bridge=True."""
