"""An HTTP/2 answer that breaks off says so.

Decided here: that a stream whose app ended, and whose answer did not, is reset (RST_STREAM).
Hypercorn forgets it without a word; its client would wait for the rest as long as the connection is
in use. With HTTP/1.1 the connection is closed instead. Source: RFC 9113 8.1, INTERFACE 4.
"""

from __future__ import annotations

from contextlib import suppress

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from hypercorn.protocol.h2 import H2Protocol


async def reset_broken_off(protocol: H2Protocol) -> bytes:
    """Reset the streams that broke off; give what is to be sent for it."""
    for stream_id, buffer in list(protocol.stream_buffers.items()):
        # What is complete is sent to its end, or its client has closed it.
        if stream_id in protocol.streams or buffer.complete:
            continue
        with suppress(ProtocolError):  # its client was faster, or the connection is ending
            protocol.connection.reset_stream(stream_id, ErrorCodes.INTERNAL_ERROR)
        protocol.priority.unblock(stream_id)  # so that the buffer is thrown away
        await protocol.has_data.set()
    return protocol.connection.data_to_send()
