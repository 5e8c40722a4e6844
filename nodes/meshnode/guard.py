"""Who is let in at the front: CURVE, and an authenticator that answers libzmq's question (ZAP, ZeroMQ RFC 27).

Shell: owns the authenticator's thread. libzmq lets everybody in where nobody answers, unless a domain is set and
enforced (measured); so both are, and the node tries a key that is not allowed before it serves anybody.
"""

import logging
import threading

import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from mesh.core.grants import ALLOWED, NODE, Grant
from mesh.errors import ConfigError
from mesh.keys import Keyring
from mesh.link import Curve
from mesh.seldom import Seldom

log = logging.getLogger("meshnode")

_ZAP = "inproc://zeromq.zap.01"
_DOMAIN = b"mesh"
_REQUEST_FRAMES = 7
"""Of a request that is about CURVE: version, request, domain, address, routing id, mechanism, key."""

PROBE_S = 10.0
"""Seconds that an answer may take before the node does not start; it takes milliseconds, but for a machine that starts
many things at once."""


class Guard:
    """Lets in the keys of a keyring, as of now. Use `protect` before the front is bound, then `prove`."""

    def __init__(self, keyring: Keyring) -> None:
        self.keyring = keyring
        self._seldom = Seldom(log)
        self._probe = ""

    def grant(self, public: str | None) -> Grant | None:
        """Return what a key may do now; None if it is not, or no longer, allowed."""
        return None if public is None else self.keyring.allowed.grant(public)

    def refresh(self) -> bool:
        """Read the list again if it has changed; True if another one is in force."""
        before = self.keyring.flaw
        changed = self.keyring.refresh()
        if changed:
            log.info("%s was read again: %d keys", ALLOWED, len(self.keyring.allowed.entries))
        elif self.keyring.flaw != before and self.keyring.flaw:
            log.error("the list of keys stays as it was: %s", self.keyring.flaw)
        return changed

    def protect(self, context: "zmq.Context[zmq.SyncSocket]", front: "zmq.Socket[bytes]") -> None:
        """Start the authenticator, and have a socket accept only whom it lets in. Raises ConfigError."""
        own = self.keyring.own
        grant = self.keyring.allowed.grant(own.public)
        if grant is None or grant.kind != NODE:
            what = "not in" if grant is None else f"a {grant.kind}'s in"
            raise ConfigError(
                f"the key {own.path} is {what} {self.keyring.folder / ALLOWED}: was it revoked, or is the list an old "
                "one?"
            )
        socket = context.socket(zmq.REP)
        socket.set(zmq.LINGER, 0)
        socket.bind(_ZAP)
        threading.Thread(target=self._answer, args=(socket,), name="zap", daemon=True).start()
        front.set(zmq.CURVE_SERVER, 1)
        front.set(zmq.CURVE_SECRETKEY, own.secret.encode())
        front.set(zmq.ZAP_DOMAIN, _DOMAIN)
        front.set(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def _answer(self, socket: "zmq.Socket[bytes]") -> None:
        """The thread: answer one question after another until the context ends."""
        try:
            while True:
                frames = socket.recv_multipart()
                version, request = (*frames, b"", b"")[:2]
                try:
                    name = self._judge(frames)
                except Exception:  # whatever it is, nobody is let in by it, and the next one is asked about
                    log.exception("a key could not be judged; it is refused")
                    name = None
                verdict = [b"400", b"not allowed", b"", b""] if name is None else [b"200", b"OK", name, b""]
                socket.send_multipart([version, request, *verdict])
        except zmq.ContextTerminated:
            pass
        except zmq.ZMQError:  # without an authenticator libzmq refuses everybody: say so
            log.exception("the authenticator failed; nobody is let in any more")
        finally:
            socket.close(linger=0)

    def _judge(self, frames: list[bytes]) -> bytes | None:
        """Return the key as User-Id if it is let in."""
        if len(frames) != _REQUEST_FRAMES or frames[2] != _DOMAIN or frames[5] != b"CURVE":
            return None
        public: bytes = z85.encode(frames[6])
        if self.keyring.allowed.grant(public.decode()) is not None:
            return public
        if public.decode() == self._probe:
            return None
        address = frames[3].decode("ascii", "replace")[:64].removeprefix("::ffff:")  # IPv4, as IPv6 sockets show it
        self._seldom.warn(
            address, "somebody at %s has a key that is not in %s: refused (%s)", address, ALLOWED, public.decode()
        )
        return None

    def prove(self, endpoint: str) -> None:
        """Try the front from outside: a key of no one must be refused, this node's own let in. Raises ConfigError.

        Blocks for at most twice `PROBE_S`.
        """
        own = self.keyring.own
        stranger, secret = (key.decode() for key in zmq.curve_keypair())
        self._probe = stranger
        for let_in, whose, curve in (
            (False, "a key that is not allowed", Curve(own.public, stranger, secret)),
            (True, "its own key", Curve(own.public, own.public, own.secret)),
        ):
            found = _is_let_in(endpoint, curve)
            if found is None:
                raise ConfigError(f"this node gave {whose} no answer at {endpoint} within {PROBE_S:g} s: not started")
            if found is not let_in:
                raise ConfigError(f"this node {'lets' if found else 'does not let'} {whose} in: it does not start")


def _is_let_in(endpoint: str, curve: Curve) -> bool | None:
    """Connect with this key; None if no answer came."""
    context: zmq.Context[zmq.SyncSocket] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH)
    try:
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.IPV6, 1)
        socket.set(zmq.CURVE_SERVERKEY, curve.node.encode())
        socket.set(zmq.CURVE_PUBLICKEY, curve.public.encode())
        socket.set(zmq.CURVE_SECRETKEY, curve.secret.encode())
        socket.connect(_near(endpoint))
        if not monitor.poll(int(PROBE_S * 1000)):
            return None
        return parse_monitor_message(monitor.recv_multipart())["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
    finally:
        socket.disable_monitor()
        monitor.close(linger=0)
        socket.close(linger=0)
        context.term()


def _near(endpoint: str) -> str:
    """Return where a bound endpoint is reached from this host."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return f"tcp://127.0.0.1:{port}" if host in ("*", "0.0.0.0", "[::]") else endpoint  # noqa: S104  # compared, not bound
