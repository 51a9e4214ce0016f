"""What a bad network does to the bytes of a wire, as deeds on a proxy.

Decided here: the deeds, and which of them a wire bears on which servers follow one another. Not
decided here: when each is done and for how long; `heal` ends any of them.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.stores.byte_proxy import ByteProxy, How

# Begins something, given a delay in seconds, and gives its name.
Deed = Callable[[ByteProxy, float], str]


def drop_replies(proxy: ByteProxy, _: float) -> str:
    proxy.replies.become(How.SWALLOW)
    return "replies dropped"


def drop_requests(proxy: ByteProxy, _: float) -> str:
    proxy.requests.become(How.SWALLOW)
    return "requests dropped"


def delay_replies(proxy: ByteProxy, delay_s: float) -> str:
    proxy.replies.become(How.DELAY, delay_s)
    return "replies delayed"


def delay_requests(proxy: ByteProxy, delay_s: float) -> str:
    proxy.requests.become(How.DELAY, delay_s)
    return "requests delayed"


def reset_all(proxy: ByteProxy, _: float) -> str:
    proxy.reset()
    return "reset"


def reset_replies(proxy: ByteProxy, _: float) -> str:
    proxy.replies.become(How.RESET)
    return "reset at each reply"


def slice_all(proxy: ByteProxy, _: float) -> str:
    proxy.requests.become(How.SLICE)
    proxy.replies.become(How.SLICE)
    return "sliced"


def black_hole(proxy: ByteProxy, _: float) -> str:
    proxy.black_hole()
    return "black hole"


def partition(proxy: ByteProxy, _: float) -> str:
    proxy.partition()
    return "partition"


DEEDS: list[Deed] = [
    drop_replies,
    drop_requests,
    delay_replies,
    delay_requests,
    reset_all,
    reset_replies,
    slice_all,
    black_hole,
    partition,
]

# What TCP itself may do. To lose bytes in the middle of a stream that goes on is a fault of no
# network: a replica would believe what comes after.
ORDERLY: list[Deed] = [delay_replies, delay_requests, reset_all, slice_all, partition]
