"""What all commands share: where the configuration comes from, and how a command ends.

Decided here: the common options, and the exit code and words of each kind of failure. Bad input is
2, a failure 1, Ctrl-C 130; a defect of ours keeps its traceback. Not decided here: what a command
does. Source: INTERFACE 1.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click

from gateway.config import Config, load_config
from gateway.core.errors import BadRequest, GatewayError, InvalidInput

EXIT_FAILURE: Final = 1
EXIT_INPUT: Final = 2
EXIT_INTERRUPTED: Final = 130

# Libraries whose errors mean that the world failed. By name, since importing them takes long.
_OUTSIDE: Final = frozenset({"redis", "httpx"})


def configured(**settings: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options --config, --redis and --data-dir, and a `config` made of them.

    `settings` names options of the command that are settings too, such as `bind="server.bind"`;
    they become part of `config` instead of arguments.
    """
    overrides = settings | {"redis_url": "redis.url", "data_dir": "data_dir"}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @click.option("--config", "config_file", type=Path, metavar="FILE", help="gateway.toml.")
        @click.option("--redis", "redis_url", metavar="URL", help="The store; default embedded.")
        @click.option(
            "--data-dir", type=Path, metavar="DIR", help="Of the embedded store; default ./var."
        )
        @wraps(command)
        def with_config(config_file: Path | None, **arguments: Any) -> Any:
            given = {setting: arguments.pop(option) for option, setting in overrides.items()}
            config: Config = load_config(config_file, os.environ, given)
            return command(config=config, **arguments)

        return with_config

    return decorate


def example(*lines: str) -> str:
    """Make the epilog of a command's help; its lines are kept as they are."""
    return "\b\nExample:\n" + "\n".join(f"  cmapi-gateway {line}" for line in lines)


def read_bounded(path: Path, what: str, bytes_max: int) -> bytes:
    """Read a file that was named on the command line. Raises InvalidInput."""
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except OSError as error:
        raise InvalidInput(f"{what} {path} cannot be read: {error.strerror}") from None
    if len(data) > bytes_max:
        raise InvalidInput(f"{what} {path} is over {bytes_max} bytes")
    return data


def read_password(bytes_max: int) -> bytes:
    """Read a password from standard input, without the newline at its end; it may be too long."""
    # Read beyond the bound, so that a longer one is refused and not cut.
    data = sys.stdin.buffer.read(bytes_max + 3)
    return data.removesuffix(b"\r\n" if data.endswith(b"\r\n") else b"\n")


def run(command: Callable[[], Any]) -> int:
    """Run a command to its exit code; what went wrong is told on stderr, without a traceback.

    A command ends with another code by `ctx.exit`, which arrives here as an integer.
    """
    try:
        result = command()
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        return _told(EXIT_INPUT, error.format_message())
    except InvalidInput as error:
        return _told(EXIT_INPUT, *error.problems)
    except BadRequest as error:
        return _told(EXIT_INPUT, error.message)
    except GatewayError as error:
        return _told(EXIT_FAILURE, error.message)
    except Exception as error:
        if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _OUTSIDE:
            return _told(EXIT_FAILURE, _sentence(error))
        raise
    return result if isinstance(result, int) else 0


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _told(code: int, *problems: str) -> int:
    for problem in problems:
        click.echo(problem, err=True)
    return code
