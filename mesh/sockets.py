"""What both ends ask of a ZeroMQ socket all the time, at a fraction of what pyzmq's enumerations cost (1 µs a use)."""

from typing import Any, cast

import zmq

NOBLOCK = int(zmq.NOBLOCK)
NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)

_EVENTS, _RCVMORE, _POLLIN = int(zmq.EVENTS), int(zmq.RCVMORE), int(zmq.POLLIN)


def readable(socket: "zmq.Socket[Any]") -> bool:
    """Has a message arrived? To ask costs less than to be refused one."""
    return cast(int, socket.get(_EVENTS)) & _POLLIN != 0


def more(socket: "zmq.Socket[Any]") -> bool:
    """Does a frame follow the one that was received last?"""
    return bool(socket.get(_RCVMORE))
