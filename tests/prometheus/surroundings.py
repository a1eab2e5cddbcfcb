"""What stands around a gateway: an application behind it, an issuer's published keys, and receivers of alarms."""

import http.server
import json
import socket
import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

# The public half of the key of RFC 7515, appendix A.3.
PUBLISHED = {
    "kty": "EC",
    "crv": "P-256",
    "kid": "published",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}


class Application:
    """sends back what it gets, and keeps with which `traceparent` connections came"""

    def __init__(self):
        self.traceparents: list[str] = []
        self.server = serve(self.echo, "127.0.0.1", 0, compression=None, ping_interval=None)
        self.address = "127.0.0.1:{}".format(self.server.socket.getsockname()[1])
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def echo(self, connection: ServerConnection):
        self.traceparents.append(connection.request.headers.get("traceparent", ""))
        try:
            for message in connection:
                connection.send(message)
        except ConnectionClosed:
            pass

    def close(self):
        self.server.shutdown()


class Web(http.server.ThreadingHTTPServer):
    """`/jwks` has the keys, `/hook` takes alarms, and whatever else is gone"""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.address = f"127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200 if self.path == "/jwks" else 410, json.dumps({"keys": [PUBLISHED]}).encode())

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(204 if self.path == "/hook" else 410)

    def answer(self, status: int, body: bytes = b""):
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Nobody:
    """an address that is taken and where nobody listens"""

    def __init__(self):
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.address = "127.0.0.1:{}".format(self.socket.getsockname()[1])

    def close(self):
        self.socket.close()
