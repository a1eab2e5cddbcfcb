"""Autobahn's cases through a gateway: with the suite as the client, and with the suite as the upstream.

`clients`: the suite attacks the gateway, an honest echo stands behind it. `upstreams`: the suite stands behind the gateway and
attacks it from there, an honest echo is the client. Either passes if no case fails and the close handshake of each is right.
"""

import asyncio
import sys
from collections import Counter, defaultdict

import websockets
from kosoku import FailureError, run_fuzzingclient, run_fuzzingserver

from gateway import gateway

# What is judged; compression (12, 13) is declined, which one case of each shows.
CASES = [*(f"{section}.*" for section in (1, 2, 3, 4, 5, 6, 7, 9, 10)), "12.1.1", "13.1.1"]
DECLINED = ("12.", "13.")
# Where NON-STRICT, short of what RFC 6455 wishes and within what it demands, is enough; elsewhere it fails.
BEFORE_THE_ECHO = "a violation ends the connection at once (7.1.7), while the message before it is still on its way back"
BY_FRAMES = "a text is judged by whole frames: what is not UTF-8 fails at its frame's end, never delivered"
NON_STRICT = {
    **dict.fromkeys(("3.2", "3.3", "3.4", "4.1.3", "4.1.4", "4.1.5", "4.2.3", "4.2.4", "4.2.5", "5.15"), BEFORE_THE_ECHO),
    **dict.fromkeys(("6.4.3", "6.4.4"), BY_FRAMES),
}
AGENT = "picket"
WITHIN_SECONDS = 300
ECHO = {"max_size": None, "compression": None, "ping_interval": None}


async def echo(socket) -> None:
    """Fragments come back as one message: an application sees messages."""
    try:
        async for message in socket:
            await socket.send(message)
    except websockets.ConnectionClosed:
        pass  # how it ends is judged at its other end


async def clients(cases: list[str]):
    async with websockets.serve(echo, "127.0.0.1", 0, **ECHO) as server:
        port = server.sockets[0].getsockname()[1]
        async with gateway(port) as address:
            return await run_fuzzingclient(f"ws://{address}/", cases)


async def upstreams(cases: list[str]):
    async with run_fuzzingserver(cases, port=0) as server, gateway(server.port) as address:
        count = int(await told(f"ws://{address}/getCaseCount"))
        for case in range(1, count + 1):
            async with websockets.connect(f"ws://{address}/runCase?case={case}&agent={AGENT}", **ECHO) as socket:
                await echo(socket)
        await told(f"ws://{address}/updateReports?agent={AGENT}")
        return await server.get_result()


async def told(url: str) -> str | None:
    async with websockets.connect(url, **ECHO) as socket:
        try:
            return await socket.recv()
        except websockets.ConnectionClosed:
            return None


SIDES = {"clients": clients, "upstreams": upstreams}


async def results(side: str, cases: list[str]):
    try:
        return await asyncio.wait_for(SIDES[side](cases), WITHIN_SECONDS)
    except FailureError as error:
        return error.results


def passes(result) -> bool:
    """INFORMATIONAL always does: there the standard demands nothing."""
    if result.case_id.startswith(DECLINED):
        return result.behavior.value == "UNIMPLEMENTED"
    return result.passed and (result.behavior.value != "NON-STRICT" or result.case_id in NON_STRICT)


def report(side: str, found) -> bool:
    """Prints a line for each section and each failure; true if all passed."""
    sections = defaultdict(Counter)
    for result in found:
        sections[int(result.case_id.split(".")[0])][result.behavior.value] += 1
    print(f"\n{side}: {len(found)} cases")
    for section, counts in sorted(sections.items()):
        print(f"  {section:>2}  " + ", ".join(f"{count} {value}" for value, count in sorted(counts.items())))
    for why in dict.fromkeys(NON_STRICT.values()):
        cases = [one.case_id for one in found if one.behavior.value == "NON-STRICT" and NON_STRICT.get(one.case_id) == why]
        if cases:
            print(f"  NON-STRICT {', '.join(cases)}: {why}")
    failed = [result for result in found if not passes(result)]
    for result in failed:
        print(f"  FAILED {result.case_id}: {result.behavior.value}, close {result.behavior_close.value}")
        print(f"    {result.description}\n    expected: {result.expectation}")
        print(f"    {result.result} {result.result_close}; code {result.remote_close_code} {result.remote_close_reason}")
    return bool(found) and not failed


async def main(arguments: list[str]) -> int:
    sides = [argument for argument in arguments if argument in SIDES] or list(SIDES)
    cases = [argument for argument in arguments if argument not in SIDES] or CASES
    return 0 if all([report(side, await results(side, cases)) for side in sides]) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
