"""An S3 server on this machine, and a proxy before it that answers as a bad day's object store would."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from moto.server import ThreadedMotoServer

#: What moto takes from anybody; the secret is looked for where it must not be.
ACCESS_KEY, SECRET_KEY = "someone", "a-secret-that-must-not-leak"


class Server:
    """A moto server and the proxy; `fault` says what becomes of a request.

    Attributes
    ----------
    fault : callable
        ``fault(method, path)`` returns None, "unavailable", "truncated", "slow" or "hangs up".
    n_faults : int
    """

    def __init__(self) -> None:
        self._moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._moto.start()
        _, moto_port = self._moto.get_host_and_port()
        self.fault: Callable[[str, str], str | None] = lambda method, path: None
        self.n_faults = 0
        self._lock = threading.Lock()
        self._proxy = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(moto_port))
        self._proxy.daemon_threads = True
        threading.Thread(target=self._proxy.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._proxy.server_address[1]}"

    def close(self) -> None:
        self._proxy.shutdown()
        self._proxy.server_close()
        self._moto.stop()

    def _fault(self, method: str, path: str) -> str | None:
        with self._lock:
            fault = self.fault(method, path)
            self.n_faults += fault is not None
        return fault

    def _handler(server, moto_port: int) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = server._fault(self.command, self.path)
                if fault == "hangs up":
                    self.close_connection = True
                    return
                if fault == "unavailable":
                    self._send(503, {}, b"<Error><Code>SlowDown</Code></Error>")
                    return
                if fault == "slow":
                    time.sleep(1.0)
                connection = http.client.HTTPConnection("127.0.0.1", moto_port, timeout=30)
                headers = {k: v for k, v in self.headers.items() if k.lower() not in ("connection", "expect")}
                connection.request(self.command, self.path, body, headers)
                response = connection.getresponse()
                data = response.read()
                self._send(response.status, dict(response.getheaders()), data, cut_short=fault == "truncated")
                connection.close()

            def _send(self, status: int, headers: dict[str, str], data: bytes, cut_short: bool = False) -> None:
                self.send_response(status)
                length = headers.get("Content-Length") or headers.get("content-length")
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "connection", "date", "server", "transfer-encoding"):
                        self.send_header(name, value)
                self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data[: len(data) // 2] if cut_short else data)
                if cut_short:
                    self.close_connection = True

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                return

        return Handler
