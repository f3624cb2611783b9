"""An httpx transport on which no request outlives its deadline, however slowly the other side drips its bytes.

httpx bounds each read, not the whole: a server that sends a byte a second keeps a caller for ever. Here every socket
operation is given what is left of the deadline of the thread that performs it. Only the look-up of a host's name is not
bounded (the system offers no way to).
"""

import ssl
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager

import httpcore
import httpx

SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


class Deadline(threading.local):
    """When the calling thread's request must be over, by ``time.monotonic``."""

    at: float = float("inf")

    @contextmanager
    def until(self, at: float) -> Generator[None]:
        """Bound all that this thread sends and receives within the block."""
        self.at = at
        try:
            yield
        finally:
            self.at = float("inf")

    def left(self, timeout: float | None, fault: type[httpcore.TimeoutException]) -> float | None:
        """The shorter of ``timeout`` and what is left, in seconds.

        Raises:
            httpcore.TimeoutException: nothing is left (as the subclass ``fault``).
        """
        left = self.at - time.monotonic()
        if left <= 0:
            raise fault("the deadline passed")
        if left == float("inf"):
            return timeout
        return left if timeout is None else min(timeout, left)


class DeadlineTransport(httpx.BaseTransport):
    """A pool of connections whose reads and writes obey ``deadline``."""

    def __init__(self, deadline: Deadline, *, connections: int, ssl_context: ssl.SSLContext | None) -> None:
        network = _Network(deadline)
        self._pool = httpcore.ConnectionPool(ssl_context, max_connections=connections, network_backend=network)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; the response's body is read as it is iterated."""
        assert isinstance(request.stream, httpx.SyncByteStream)
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        sent = httpcore.Request(
            request.method, url, headers=request.headers.raw, content=request.stream, extensions=request.extensions
        )
        got = self._pool.handle_request(sent)
        assert isinstance(got.stream, Iterable)
        return httpx.Response(got.status, headers=got.headers, stream=_Body(got), extensions=got.extensions)

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()


class _Body(httpx.SyncByteStream):
    """A response's body, as httpx wants it."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


class _Network(httpcore.NetworkBackend):
    """Opens connections that obey the deadline."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._sockets.connect_tcp(host, port, left, local_address, socket_options), self._deadline)


class _Stream(httpcore.NetworkStream):
    """A connection each of whose operations is given what is left."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)
