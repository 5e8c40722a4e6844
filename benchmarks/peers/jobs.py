"""The jobs, for systems whose workers find them by the name of their module; `driver` runs as `__main__`."""

import time


def noop() -> None:
    pass


def nap(seconds: float) -> None:
    time.sleep(seconds)


def noop_numbered(_number: int) -> None:
    pass


def nap_numbered(_number: int, seconds: float) -> None:
    time.sleep(seconds)
