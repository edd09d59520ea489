"""`thorndike ui`: a page that shows runs while they train."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

from thorndike.commands.opening import parse
from thorndike.errors import ConfigError


def ui(folder: Path = Path("runs"), /, port: int = 8000, host: str = "127.0.0.1") -> None:
    """Show runs in a browser while they train: their curves, side by side, and their films. Ctrl-C ends it.

    The page can stop runs of yours, with the signal of Ctrl-C, and go on with them. The address that is printed has a
    token in it: who knows it may do that too. Runs train on when this ends.

    Args:
        folder: where the runs are, also in the folders in it
        port: where to listen; 0 for any that is free
        host: the address to listen on; by default only this machine reaches it
    """
    from thorndike.extras import importing

    with importing("starlette", "thorndike ui"):
        import starlette  # noqa: F401
    with importing("uvicorn", "thorndike ui"):
        import uvicorn
    from thorndike.ui.app import address, app
    from thorndike.ui.folder import Folder
    from thorndike.ui.guard import Guard, is_loopback
    from thorndike.ui.processes import Processes

    runs, guard = Folder(folder), Guard(host=host)
    with listening(host, port) as place:
        server: Any = None
        page = app(runs, guard, Processes(), lambda: not server.should_exit)
        server = uvicorn.Server(
            uvicorn.Config(
                page,
                access_log=False,  # which would have the token in it
                log_level="error",
                lifespan="off",
                ws="none",
                server_header=False,
                proxy_headers=False,
                limit_concurrency=200,
                timeout_graceful_shutdown=3,
            )
        )
        if not is_loopback(host):
            print("warning: others may listen in on this, it is not encrypted; ssh -L is", file=sys.stderr)
        print(f"{runs.path}: {address(host, place.getsockname()[1], guard.token)}\nCtrl-C ends this", flush=True)
        server.run(sockets=[place])


def listening(host: str, port: int) -> socket.socket:
    """The socket; raises `ConfigError` where it cannot be had."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {host}, port {port}: {why}; --port 0 takes any that is free") from None


def main(words: list[str]) -> None:
    """The command."""
    parse(ui, words)
