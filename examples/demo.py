"""The main job, for real: a thousand mails must be sent, and the site must not stall.

An SMTP server, three nodes and a WebSocket site run as processes of their own. One visitor of the site asks
for 1,000 mails while 20 others go on sending echoes; then the site sends them inline, for comparison; then a
plain socket asks a node for one more. Exit code 0 says that everything held; nothing is left running.

    python -m examples.demo
"""

import asyncio
import json
import signal
import sys
from contextlib import suppress

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from examples.demo_parts.measured import Run, promises, rows
from examples.demo_parts.processes import Processes, StartError
from examples.demo_parts.screen import Screen
from examples.demo_parts.stage import Stage, stats
from examples.demo_parts.visitors import Crowd

MAILS = 1_000
VISITORS = 20
SAMPLE = 50
INLINE_AT_MOST_S = 8.0
"""Seconds that all mails may take inline; where a sample says that they take longer, the sample must do."""

IN_ALL_S = 60.0
"""Seconds for everything; what takes longer has failed."""


async def main() -> int:
    """Play the demo; return 0 if everything held."""
    loop, this = asyncio.get_running_loop(), asyncio.current_task()
    assert this is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, this.cancel)
    screen, processes = Screen(), Processes()
    began = loop.time()
    try:
        async with asyncio.timeout(IN_ALL_S), processes:
            held = await play(screen, Stage(processes, screen))
    except (StartError, TimeoutError, OSError, WebSocketException) as error:
        screen.failure(error, processes.last_words())
        return 1
    screen.verdict(held, f"{'everything' if held else 'not everything'} held, in {loop.time() - began:.1f} s")
    return 0 if held else 1


async def play(screen: Screen, stage: Stage) -> bool:
    """Tell the story; return whether everything held."""
    screen.title(f"{MAILS:,} mails must be sent, and the site must not stall")
    await stage.set_up()
    async with Crowd(stage.url, VISITORS) as crowd:
        screen.step(f"{VISITORS} visitors", "send echoes to the site from now on, all the time")
        screen.title("One more visitor asks the site, which hands the mails over to the mesh:")
        meshed = await show_sending("mail", MAILS, screen, stage, crowd)
        screen.title("The same without the mesh: the site sends them itself, and nobody is served meanwhile.")
        inline = await send("inline", SAMPLE, stage, crowd)
        if inline.seconds / SAMPLE * MAILS < INLINE_AT_MOST_S:
            inline = await show_sending("inline", MAILS, screen, stage, crowd)
        else:
            screen.note(f"{SAMPLE} of them took {inline.seconds:.2f} s; what is marked ≈ is reckoned from that for all")
    screen.title("Side by side:")
    screen.table(("", "by the mesh", "inline"), rows(meshed, inline, stage.nodes))
    screen.title("A plain socket asks the bridge for one more, as PHP or nc would:")
    kept = [*promises(meshed, stage.nodes, VISITORS), await ask_plainly(screen, stage)]
    screen.title("Did it hold?")
    for held, text in kept:
        screen.promise(held, text)
    return all(held for held, _ in kept)


async def show_sending(how: str, mails: int, screen: Screen, stage: Stage, crowd: Crowd) -> Run:
    """Send mails, and show how many have arrived."""
    before = stage.smtp.now
    screen.line("→", f"{how} {mails}")
    with screen.progress("mails accepted", mails) as show:
        stage.smtp.on_change = lambda: show(stage.smtp.now.since(before).accepted)
        run = await send(how, mails, stage, crowd)
    screen.line("←", run.answer)
    return run


async def send(how: str, mails: int, stage: Stage, crowd: Crowd) -> Run:
    """Ask the site for mails, and measure until it says that they are sent."""
    loop, before = asyncio.get_running_loop(), stage.smtp.now
    async with connect(stage.url) as visitor:
        await stats(visitor)
        crowd.begin()
        began = loop.time()
        await visitor.send(f"{how} {mails}")
        answer = str(await visitor.recv())
        seconds = loop.time() - began
        echoes = await crowd.finish()
        counts = (await stage.smtp.settled(before.accepted + mails)).since(before)
        site = await stats(visitor)
    return Run(mails, answer, seconds, counts, site["longest_stall_ms"], echoes, site["sent_by"])


async def ask_plainly(screen: Screen, stage: Stage) -> tuple[bool, str]:
    """Write one line to the bridge and read one line: that is the whole protocol."""
    host, _, port = stage.bridge.rpartition(":")
    args = {"from": "shell@example.org", "to": "plain@example.org", "contents": "One more."}
    before = stage.smtp.now.accepted
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        request = json.dumps({"function": "send_mail", "args": args})
        screen.line("→", request)
        writer.write(f"{request}\n".encode())
        async with asyncio.timeout(10):
            reply = (await reader.readline()).decode().strip()
        screen.line("←", reply)
    finally:
        writer.close()
    accepted = (await stage.smtp.settled(before + 1)).accepted - before
    held = accepted == 1 and '"to":"plain@example.org"' in reply
    return held, f"the plain socket was {'' if reply else 'not '}answered; mails of it that arrived: {accepted}"


if __name__ == "__main__":
    with suppress(asyncio.CancelledError):
        sys.exit(asyncio.run(main()))
    print("stopped; nothing is left running")
    sys.exit(130)
