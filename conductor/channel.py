"""Messages between the parent, the keeper and the runners: small JSON objects over local sockets."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator
from typing import Any

__all__ = ["Channel", "ChannelClosed"]

_MAX_BYTES = 128 * 1024


class ChannelClosed(Exception):
    """The process at the other end is gone, or has closed the channel."""


class Channel:
    """One end of a SOCK_SEQPACKET pair: whole messages, each sent and received at once.

    Several threads may send; one receives.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(one), cls(other)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: dict[str, Any], passing: Channel | None = None) -> None:
        """Send a message, with an end of another channel if `passing` is given.

        Raises:
            ChannelClosed.
        """
        data = json.dumps(message).encode()
        try:
            if passing is None:
                self._socket.send(data)
            else:
                socket.send_fds(self._socket, [data], [passing.fileno()])
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ChannelClosed from error

    def receive(self) -> tuple[dict[str, Any], Channel | None]:
        """Wait for one message; returns it with the channel that was passed along, if any.

        Raises:
            ChannelClosed.
        """
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, _MAX_BYTES, 1)
        except ConnectionResetError as error:
            raise ChannelClosed from error
        if not data:
            raise ChannelClosed
        return json.loads(data), Channel(socket.socket(fileno=fds[0])) if fds else None

    def arrived(self) -> Iterator[tuple[dict[str, Any], Channel | None]]:
        """All messages that are there by now, as `receive` returns them.

        Raises:
            ChannelClosed: after the last one.
        """
        # Not by MSG_DONTWAIT: the recv_fds of this Python takes flags and does not pass them on.
        ready = select.poll()
        ready.register(self._socket, select.POLLIN)
        while ready.poll(0):
            yield self.receive()

    def close(self) -> None:
        self._socket.close()
