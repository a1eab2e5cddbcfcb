"""What users of python-socketio meet with Picket between them and the application: client.py URL ORIGIN ADDRESS TOKEN TRANSPORT…"""

import asyncio
import sys

import socketio

PATIENCE_S = 5


class Caller:
    """A client, and what it was told."""

    def __init__(self, url, headers, transports):
        self.client = socketio.AsyncClient(reconnection=False)
        self.url, self.headers, self.transports = url, headers, transports
        self.heard = asyncio.Queue(maxsize=100)

    def listens(self, event, namespace="/"):
        async def hear(*parameters):
            await self.heard.put((event, namespace, *parameters))

        self.client.on(event, hear, namespace=namespace)

    async def connects(self, auth=None, namespaces=("/",)):
        await self.client.connect(
            self.url,
            headers=self.headers,
            auth=auth,
            transports=self.transports,
            namespaces=list(namespaces),
            wait_timeout=PATIENCE_S,
        )
        return self

    async def hears(self):
        return await asyncio.wait_for(self.heard.get(), PATIENCE_S)

    async def asks(self, event, data, namespace="/"):
        return await self.client.call(event, data, namespace=namespace, timeout=PATIENCE_S)


def equal(found, expected):
    assert found == expected, f"{found!r}, not {expected!r}"


async def main(url, origin, address, token, *transports):
    headers = {"Origin": origin, "X-Forwarded-For": address}

    def caller():
        return Caller(url, headers, list(transports))

    # Namespaces, and acknowledgements of the server's.
    alice = caller()
    for namespace in ("/", "/chat"):
        alice.listens("error", namespace)
    alice.listens("binary:back")
    alice.client.on("question", lambda question: f"my {question['what']}")
    await alice.connects(auth={"token": token}, namespaces=("/", "/chat"))
    while alice.client.transport() != transports[-1]:
        await asyncio.sleep(0.01)
    for namespace in ("/", "/chat"):
        text = {"text": "a < b", "n": [1, None, 2.5]}
        equal(await alice.asks("chat:send", text, namespace), {"namespace": namespace, "got": text})
    equal(await alice.asks("chat:private", "x", "/chat"), {"privately": "x"})

    # Acknowledgements of the client's.
    equal(await alice.asks("ask:me", None), "my name")

    # Binary, both ways.
    data = bytes(range(256)) * 100
    equal(await alice.asks("binary:send", data), data)
    equal(await alice.hears(), ("binary:back", "/", data, {"length": len(data)}))

    # Refused events: by the error event, and by their acknowledgement.
    await alice.client.emit("admin:drop", {"table": "users"}, namespace="/chat")
    event, namespace, refusal = await alice.hears()
    equal((event, namespace, refusal["event"], refusal["reason"]), ("error", "/chat", "admin:drop", "unknown_event"))
    answer = await alice.asks("chat:moderate", {"kick": "bob"})
    equal(answer["error"]["reason"], "role_required")
    await alice.hears()

    # Active markup goes, honest text stays.
    answer = await alice.asks("chat:send", "hi <script>alert(1)</script><b>there</b>")
    equal(answer["got"], "hi <b>there</b>")
    await alice.client.disconnect()

    # A bad token.
    mallory = caller()
    mallory.listens("connect_error")
    try:
        await mallory.connects(auth={"token": "nonsense"})
        raise AssertionError("a bad token came in")
    except socketio.exceptions.ConnectionError:
        pass
    refusal = (await mallory.hears())[2]
    equal(refusal["data"]["reason"], "token_invalid")
    await mallory.client.disconnect()


asyncio.run(main(*sys.argv[1:]))
