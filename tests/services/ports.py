"""Loopback ports that stay ours while nobody listens on them."""

import contextlib
import socket
from collections.abc import Iterator

HOST = "127.0.0.1"


@contextlib.contextmanager
def reserved_port(host: str = HOST) -> Iterator[int]:
    """A free port on which a service may listen, stop and listen again while this lasts.

    A socket that is bound and does not listen holds it. Whoever binds with SO_REUSEADDR, as servers do, may
    listen all the same. Nobody else gets the port: least of all a client that connects while the service is
    down, whom the kernel might give this very port as its own, so that it would speak with itself.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((host, 0))
        yield holder.getsockname()[1]
