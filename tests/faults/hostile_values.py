"""Values and JSON texts that mean no good: the alphabet that hostile requests are written in.

Decided here: which odd values there are, and how a JSON text is spoiled as a text. Not decided
here: where they stand in a request, and what is to become of it. Everything is drawn from the
`Random` that is given, so that one number repeats a request.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any, Final

NESTED: Final = 5_000
NUMBERS: Final = (
    0, -1, 1, 2, -0.0, 1.0, 0.5, 1e308, 10**12, 10**12 + 1, -(10**12), -(10**12) - 1, 2**31, 2**53,
    2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**40, 10**400,
)  # fmt: skip
# Braces would end a hash tag, newlines and colons a key or a line of the store's protocol.
TEXTS: Final = (
    "", " ", "\0", "a\0b", "\n", "a\nb", "a\r\nX: y", "\r\n*1\r\n$4\r\nPING\r\n", "{", "}",
    "{p001}",
    "a{p001}b", "{}", "gw:meta", "x:d:y", "a|b", "L1|20260101|u", "..", "../..", "/", "//", "%00",
    "%2e%2e%2f", "~", "*", "?", "[a-z]*", "$(id)", "`id`", "'; DROP TABLE x; --", "<script>",
    "\x7f", "\x85", "\x9f", "\u2028", "\ufeff", "\u202e", "é", "e\u0301", "ſtring", "K", "１", "٣",
    "😀", "😀" * 64, "😀" * 65, "a" * 127, "a" * 128, "a" * 129, "a" * 255, "a" * 256, "a" * 257,
    "é" * 128, "é" * 129, "9" * 32, "9" * 33, "1." * 15 + "1", "1..2", "1.", ".1", "01", "+1",
    "-1", "1e3",
    "0x10", "nan", "inf", "None", "null", "true", "TRUE", "True", "false", "1s", "1S", "0w",
    "3660d",
    "3661d", "1" * 40 + "s", "1 h", "PT1H", "string", "STRING", "user", "h1", "sessions", "pages",
    "editor",
    "1.0", "0", "0.0.0", "nobody", "2099-01-01T00:00:00Z", "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59+23:59",
    "2026-02-30", "20991231T235959,999Z", "-1e1000",
)  # fmt: skip
# As they stand in a text; Python would not write them, or not so.
ODD_LITERALS: Final = (
    b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"1e-400", b"-0", b"00", b"01", b"1.",
    b".5", b"+1", b"0x10", b"1_000", b"'a'", b"undefined", b"True", b"9" * 4_301,
    b"-" + b"9" * 9_999,
    b"1" + b"0" * 400 + b".5", b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"', b'"\\u0000"',
    b'"\\x41"', b'"\\', b'"\x01"', b'"\t"', b'"\xff"', b'"\xc0\x80"', b'"\xed\xa0\x80"',
    b'"\xf5\x80\x80\x80"',
    b'"\xe2\x80"', b"[" * NESTED + b"]" * NESTED, b'{"a":' * NESTED + b"1" + b"}" * NESTED,
    b"[" * 60_000, b"/**/1", b"1//", b"", b",", b":", b"{", b"}", b"[1,]", b'{"a":1,}', b'{"a"}',
    b"{1:2}",
)  # fmt: skip


def value(draw: Random) -> Any:
    """Give a value of any type, most of them odd."""
    match draw.randrange(8):
        case 0:
            return draw.choice((None, True, False, [], {}, [[]], [None], {"": None}, ""))
        case 1 | 2:
            return draw.choice(NUMBERS)
        case 3 | 4 | 5:
            return draw.choice(TEXTS)
        case 6:
            return text(draw)
        case _:
            return _nested(draw)


def text(draw: Random) -> str:
    """Give a text of any characters, most of them few."""
    size = draw.choice((1, 2, 3, 8, 30, 255, 256, 257, 2_000))
    kind = draw.randrange(4)
    if kind == 0:
        return "".join(chr(draw.randrange(0x20)) for _ in range(size))
    if kind == 1:
        return "".join(chr(draw.randrange(0x20, 0x7F)) for _ in range(size))
    if kind == 2:
        return chr(draw.randrange(0xE000, 0x11_0000)) * size
    return draw.choice(TEXTS) + draw.choice(TEXTS)


def _nested(draw: Random) -> Any:
    made: Any = draw.choice(TEXTS)
    for _ in range(draw.choice((1, 2, 5, 40))):
        made = [made] if draw.randrange(2) else {draw.choice(TEXTS): made}
    return made


def spoiled(draw: Random, body: bytes) -> bytes:
    """Spoil a JSON object as a text: a literal, a byte, a name given twice, what is around it."""
    match draw.randrange(9):
        case 0 | 1:
            literal = draw.choice(ODD_LITERALS)
            name = json.dumps(draw.choice(("x", "count", "partial", "")))
            return body[:-1] + b"," + name.encode() + b":" + literal + b"}"
        case 2:
            return _bytes_changed(draw, body)
        case 3:
            place = draw.randrange(len(body) + 1)
            return body[:place] + draw.randbytes(draw.choice((1, 2, 7))) + body[place:]
        case 4:
            return body[: draw.randrange(len(body))]
        case 5:
            return draw.choice((b"\xef\xbb\xbf", b" ", b"\n", b"\0", b"\x0c", b"[")) + body
        case 6:
            return body + draw.choice((b" ", b"\r\n", b"\0", b"{}", b"]", body, b"\xff"))
        case 7:
            return body.decode().encode(draw.choice(("utf-16", "utf-32", "utf-16-le")))
        case _:
            return draw.randbytes(draw.choice((1, 16, 400, 4_000)))


def doubled(draw: Random, said: dict[str, Any], names: tuple[str, ...]) -> bytes:
    """Write an object with one of its members a second time, before the others or behind them."""
    body = json.dumps(said).encode()
    name = draw.choice(names)
    spelled = json.dumps(name)
    if draw.randrange(3) == 0:  # another spelling of the same name
        spelled = '"' + "".join(f"\\u{ord(each):04x}" for each in name) + '"'
    pair = f"{spelled}:{json.dumps(value(draw))}".encode()
    if draw.randrange(2):
        return b"{" + pair + b"," + body[1:]
    return body[:-1] + b"," + pair + b"}"


def _bytes_changed(draw: Random, body: bytes) -> bytes:
    changed = bytearray(body)
    for _ in range(draw.choice((1, 1, 2, 8))):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)
