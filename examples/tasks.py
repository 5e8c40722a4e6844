"""The heavy work of a site, as tasks. `meshnode examples.tasks` runs them in worker processes.

SMTP_HOST and SMTP_PORT in the environment say where mails go (127.0.0.1:1025).
"""

import asyncio
import os
import smtplib
from collections.abc import Iterator
from contextlib import suppress
from email.message import EmailMessage
from types import SimpleNamespace

import mesh

SMTP_HOST = os.environ.get("SMTP_HOST", "127.0.0.1")
SMTP_PORT = int(os.environ.get("SMTP_PORT", "1025"))


@mesh.lifespan
def keep_a_mailer(state: SimpleNamespace) -> Iterator[None]:
    """Run once in each worker: every mail that it sends goes over one connection."""
    state.mailer = Mailer()
    yield
    state.mailer.close()


@mesh.task(bridge=True, timeout=30)
def send_mail(to: str, contents: str = "", from_: str = "site@example.org") -> dict[str, str]:
    """Send one mail. Its Message-ID is the job's id, so that a mail sent twice would show."""
    job = mesh.context()
    job.state.mailer.send(letter(job.id, to, contents, from_))
    return {"to": to, "message_id": job.id}


@mesh.task(bridge=True, timeout=10)
async def smtp_greeting() -> str:
    """Return what the SMTP server says first. It waits more than it works: workers can run many at once."""
    reader, writer = await asyncio.open_connection(SMTP_HOST, SMTP_PORT)
    try:
        return (await reader.readline()).decode().strip()
    finally:
        writer.close()


def letter(ident: str, to: str, contents: str, from_: str) -> EmailMessage:
    """Write a mail."""
    message = EmailMessage()
    message["Message-ID"] = f"<{ident}@example.org>"
    message["From"] = from_
    message["To"] = to
    message["Subject"] = "News from the site"
    message.set_content(contents)
    return message


class Mailer:
    """One connection to the SMTP server, opened anew where it broke."""

    def __init__(self) -> None:
        self._smtp: smtplib.SMTP | None = None

    def send(self, message: EmailMessage) -> None:
        """Send one mail. Raises OSError or smtplib.SMTPException where the server does not take it."""
        if not self._alive():
            self._smtp = smtplib.SMTP(SMTP_HOST, SMTP_PORT, local_hostname="localhost", timeout=10)
        assert self._smtp is not None
        self._smtp.send_message(message)

    def _alive(self) -> bool:
        """Ask before each mail rather than try again after a failure: that might send it twice."""
        if self._smtp is not None:
            with suppress(OSError):
                if self._smtp.noop()[0] == 250:
                    return True
            self._smtp.close()
        return False

    def close(self) -> None:
        """Say goodbye to the server."""
        if self._smtp is not None:
            with suppress(OSError):
                self._smtp.quit()
