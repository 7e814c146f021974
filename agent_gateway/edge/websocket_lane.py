"""uvicorn's WebSocket protocol with what it lacks: a drain that lets answers end, refusals in JSON, ends that no client puts off."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidHandshake, SecurityError
from websockets.frames import Frame
from websockets.http11 import Request

from agent_gateway.core.errors import BadRequest, GatewayError, HeadersTooLarge
from agent_gateway.edge.limits import Limits
from agent_gateway.edge.response import STATUS_LINES, error_response
from agent_gateway.edge.slow_lane import ABORT
from agent_gateway.edge.websocket_session import DRAIN, UNSENT

#: The loop is held up by so many bytes at once: of the smallest frames, those are more than a thousand.
SLICE_BYTES = 8 * 1024


class WebSocketLane(WebSocketsSansIOProtocol):
    """Takes a connection over from the slow lane with the head of its handshake. Messages are handed on as bytes, text or not."""

    def __init__(self, limits: Limits, heartbeat_s: float, **of_the_server: Any) -> None:
        super().__init__(**of_the_server)
        self._limits = limits
        #: Of a connection that is over, until it is gone.
        self._end_timer: asyncio.TimerHandle | None = None
        self._retiring = False
        #: Read from the socket, and not looked at yet: nothing more is read before it is.
        self._unread = bytearray()
        self._has_turn = False
        self.ping_interval = heartbeat_s
        self.close_timeout = limits.linger_s

    # --- asyncio.Protocol ---

    def connection_lost(self, exc: Exception | None) -> None:
        if self._end_timer is not None:
            self._end_timer.cancel()
        self._unread.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._unread and len(data) <= SLICE_BYTES:
            self._take(data)
            return
        self._unread += data
        self._go_on()

    def _go_on(self) -> None:
        """What was read is looked at before more is read, whoever wants to read on."""
        if self._unread and not self.transport.is_closing():
            self.transport.pause_reading()
            if not self.read_paused and not self._has_turn:
                self._has_turn = True
                self.loop.call_soon(self._take_slice)

    def _take_slice(self) -> None:
        self._has_turn = False
        if self.disconnected:
            return
        piece = bytes(self._unread[:SLICE_BYTES])
        del self._unread[:SLICE_BYTES]
        self._take(piece)
        if self._unread:
            self._go_on()
        elif not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def _take(self, data: bytes) -> None:
        self.conn.receive_data(data)
        if self.conn.handshake_exc is not None:
            self._refuse(_unreadable(self.conn.handshake_exc.__cause__))
        elif self.conn.parser_exc is None:
            self.handle_events()
        elif not self.close_sent:
            self.handle_parser_exception()

    def shutdown(self) -> None:
        """The server drains: the app ends what runs, then the connection; one that is being closed has its time."""
        if not self.close_sent:
            self.queue.put_nowait(cast(Any, {"type": DRAIN}))

    def retire(self) -> None:
        """As when all of the gateway stops: a socket cannot be answered once more, and then left."""
        if not self._retiring:
            self._retiring = True
            self.shutdown()

    @property
    def is_idle(self) -> bool:
        return False

    # --- reading ---

    def handle_connect(self, event: Request) -> None:
        try:
            self.conn.process_request(event)
        except InvalidHandshake as error:
            self._refuse(BadRequest(f"The WebSocket handshake is not valid: {error}."))
            return
        super().handle_connect(event)
        extensions = cast("dict[str, Any]", self.scope["extensions"])
        extensions[ABORT] = {"abort": self.transport.abort}
        extensions[UNSENT] = {"unsent": self.transport.get_write_buffer_size}

    def handle_bytes(self, event: Frame) -> None:
        self.curr_msg_data_type = "bytes"
        self.frames = [cast(bytes, event.data if event.fin else bytearray(event.data))]
        if event.fin:
            self.send_receive_event_to_app()

    def handle_ping(self) -> None:
        """Who takes nothing is not answered either: pongs would pile up."""
        pong = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(pong)

    handle_text = handle_bytes  # what it says is decoded where it is read

    def handle_cont(self, event: Frame) -> None:
        self.frames[0] += event.data  # in one buffer: a list of the smallest pieces would be many times the message's size
        if event.fin:
            self.send_receive_event_to_app()

    async def receive(self) -> Any:
        message = await super().receive()
        self._go_on()
        return message

    # --- writing ---

    async def send(self, message: Any) -> None:
        await self.writable.wait()
        if self.close_sent:  # by us, before the app came to hear of it
            raise ClientDisconnected
        await super().send(message)
        self._go_on()

    # --- the ends ---

    def _refuse(self, error: GatewayError) -> None:
        """A handshake that is none. What is wrong with it is said before any app is asked."""
        status, head, body = error_response(error)
        self.close_sent = self.handshake_complete = True
        lines = (STATUS_LINES[status], head, len(body), body)
        self.transport.write(b"%b%bcontent-length: %d\r\nconnection: close\r\n\r\n%b" % lines)
        self.transport.close()

    def handle_parser_exception(self) -> None:
        """What the client sent is against the protocol or over the limit. What still comes is read and dropped for a moment:
        a close with unread bytes would reset the reason away.
        """
        self.stop_keepalive()
        close = self.conn.close_sent
        self.close_sent = True
        self.queue.put_nowait(
            {"type": "websocket.disconnect", "code": close.code if close else 1006, "reason": close.reason if close else ""}
        )
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._see_off()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self._see_off()

    def _see_off(self, unsent: int | None = None) -> None:
        """It is over: as long as the client takes something of what is left, it may."""
        if self.disconnected:
            return
        left = self.transport.get_write_buffer_size()
        if unsent is not None and left >= unsent:
            self.transport.abort()
        else:
            self._end_timer = self.loop.call_later(self.close_timeout, self._see_off, left)


def _unreadable(cause: BaseException | None) -> GatewayError:
    """Of a head that HTTP let pass: this protocol's parser has bounds of its own."""
    if isinstance(cause, SecurityError):
        return HeadersTooLarge(f"The headers of the WebSocket handshake are over a limit: {cause}.")
    return BadRequest("The WebSocket handshake is not valid HTTP.")
