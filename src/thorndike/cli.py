"""The command line: finds the command, calls it, and turns errors into one line and an exit code."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import sys
import warnings

from thorndike.commands import COMMANDS, usage
from thorndike.errors import (
    ConfigError,
    IncompatibleError,
    MissingExtraError,
    ThorndikeError,
    UnknownNameError,
)
from thorndike.names import did_you_mean
from thorndike.runs.training.signals import at_work


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    if argv is None:
        sys.stdout, sys.stderr = (s or open(os.devnull, "w") for s in (sys.stdout, sys.stderr))  # noqa: SIM115  # closed
        warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"  # nobody wants to see our source
        faulthandler.enable()  # a simulator that crashes in C ends this process: say where
    code = _main(sys.argv[1:] if argv is None else argv)
    if argv is None and at_work():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # rather than wait for a compilation whose program nobody will run
    return code


def _main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] == "--version":
        from thorndike.exports import VERSION

        print(VERSION)
        return 0
    name, words = argv[0], argv[1:]
    if name not in COMMANDS:
        return _fail(f"no command {name!r}{did_you_mean(name, COMMANDS)}; there are {', '.join(COMMANDS)}", 2)
    try:
        importlib.import_module(f"thorndike.commands.{name}").main(words)
    except (ConfigError, UnknownNameError, IncompatibleError, MissingExtraError) as error:
        return _fail(str(error), 2)
    except ThorndikeError as error:
        return _fail(str(error), 1)
    except BrokenPipeError:  # whoever reads the output has read enough
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except KeyboardInterrupt:
        return 130
    except SystemExit as exit:
        return exit.code or 0 if isinstance(exit.code, (int, type(None))) else _fail(str(exit.code), 1)
    return 0


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
