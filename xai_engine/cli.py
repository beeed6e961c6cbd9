"""The command line: `radiolucent [FILE…]` opens the window, `radiolucent VERB …` does one thing and ends.

Light: a verb's module, and what it needs, is imported when the verb is used.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from typing import Any, NamedTuple, NoReturn, TextIO

from xai_engine import __version__
from xai_engine.errors import Cancelled, OutputError, RadiolucentError, UsageError


class Verb(NamedTuple):
    """Where a verb lives. Its functions: `arguments(parser)` and `run(args) -> int`."""

    help: str
    module: str
    arguments: str = "add_arguments"
    run: str = "run"


VERBS = {
    "analyze": Verb("predict, explain, measure; write the results", "xai_engine.commands.analyze"),
    "export": Verb("write the picture exactly as the window shows it", "xai_engine.commands.export"),
    "report": Verb("make the PDF of an earlier result anew", "xai_engine.commands.report"),
    "verify": Verb("compute an earlier result anew and compare every number", "xai_engine.commands.verify"),
    "methods": Verb("list the methods of explanation and their parameters", "xai_engine.commands.methods"),
    "models": Verb("list, check or show the models", "xai_engine.commands.models"),
    "train": Verb("train a model bundle", "xai_engine.train.command", "add_train_arguments", "train"),
    "evaluate": Verb(
        "measure a bundle on labelled images",
        "xai_engine.train.command",
        "add_evaluate_arguments",
        "evaluate",
    ),
    "bench": Verb("measure speed and size", "xai_engine.bench.command"),
    "selftest": Verb("check this installation", "xai_engine.commands.selftest"),
}


class Parser(argparse.ArgumentParser):
    """Errors become a UsageError, so that they are one line like every other error."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0 done, 2 usage, 3 input, 4 model, 5 cancelled, 1 anything
    else."""
    words = list(sys.argv[1:] if argv is None else argv)
    _open_streams()
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    with suppress(AttributeError):  # a file name that the console cannot show must not end the work
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        with _stoppable() if words and words[0] in VERBS else nullcontext():
            return _run(words)
    except SystemExit as end:  # argparse's --help and --version
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except KeyboardInterrupt:
        return _say(Cancelled("cancelled; nothing half-done was left"), debug)
    except BrokenPipeError:  # the reader of our output has gone, as in `radiolucent methods | head`
        _unread(sys.stdout)
        return 0
    except RadiolucentError as error:
        return _say(error, debug)
    except MemoryError:
        return _say(RadiolucentError("not enough memory; close other programs or use a smaller image"), debug)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "?"
        text = f"unexpected {type(error).__name__} at {place}; run it with --debug and report what it prints"
        return _say(RadiolucentError(text), debug)


def complain(error: BaseException) -> None:
    """One line on standard error."""
    tell(f"radiolucent: {' '.join(str(error).split())}", sys.stderr)


def tell(text: str, stream: TextIO) -> None:
    """One line. Where nobody reads it any more (`analyze … | head`) the work goes on. Raises OutputError for a full disk."""
    try:
        print(visible(text), file=stream, flush=True)
    except BrokenPipeError:
        _unread(stream)
    except OSError as error:
        if stream is sys.stdout:
            _unread(stream)
            raise OutputError(
                f"standard output: cannot be written ({os.strerror(error.errno or 0)})"
            ) from None


def _unread(stream: TextIO) -> None:
    """What is still written there goes nowhere."""
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), stream.fileno())


def _open_streams() -> None:
    """Those that were closed by whoever started us lead nowhere, here and in our processes; else the next file or pipe would take
    their numbers, and what is meant for them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def visible(text: str) -> str:
    """With what a terminal would obey or hide written out: a file's name may hold any character."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _say(error: RadiolucentError, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    complain(error)
    return error.exit_code


def _run(words: list[str]) -> int:
    name = words[0] if words else ""
    if name in VERBS:
        verb = VERBS[name]
        module: Any = import_module(verb.module)
        parser = Parser(
            prog=f"radiolucent {name}",
            description=module.__doc__ if verb.run == "run" else verb.help,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
        getattr(module, verb.arguments)(parser)
        return int(getattr(module, verb.run)(parser.parse_args(words[1:])))
    lines = "\n".join(f"  {key:10s} {verb.help}" for key, verb in VERBS.items())
    parser = Parser(
        prog="radiolucent",
        usage="radiolucent [FILE…]\n       radiolucent VERB …",
        description="Reads chest radiographs with a pneumonia classifier and shows why it says what it says.\n"
        "Without a verb it opens the window. Research use, not a medical device.",
        epilog=f"verbs (each has --help):\n{lines}\n\nexit codes: 0 done, 2 wrong usage, 3 input unreadable "
        "or refused,\n4 model unusable, 5 cancelled, 1 anything else",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="images to open in the window")
    parser.add_argument("--version", action="version", version=f"radiolucent {__version__}")
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    args = parser.parse_args(words)
    for file in args.files:
        if not os.path.exists(file):
            if os.sep in file or "." in file:
                raise UsageError(f"{file}: no such file")
            raise UsageError(f"{file}: neither a verb nor a file; see `radiolucent --help`")
    return _window(args.files)


def _window(files: list[str]) -> int:
    if (
        sys.platform.startswith("linux")
        and not os.environ.get("DISPLAY")
        and not os.environ.get("WAYLAND_DISPLAY")
        and not os.environ.get("QT_QPA_PLATFORM")
    ):
        raise RadiolucentError("there is no display for the window; use `radiolucent analyze IMAGE` instead")
    try:
        module: Any = import_module("app.main")
    except ImportError as error:
        remedy = _package(str(error)) or "run `pip install PySide6-Essentials`"
        raise RadiolucentError(
            f"the window needs Qt, which does not load ({error}); {remedy}, or use `radiolucent analyze IMAGE`"
        ) from error
    return int(module.run(files))


def _package(message: str) -> str:
    """How to install the system library that a loader misses, in Debian's naming; "" for another message."""
    found = re.search(r"(lib[\w.+-]+?)\.so\.(\d+)", message)
    if found is None:
        return ""
    stem, version = found[1].lower(), found[2]
    name = {"libglib-2.0": "libglib2.0-0"}.get(stem) or f"{stem}{'-' if stem[-1].isdigit() else ''}{version}"
    return f"install the system package {name} (Debian, Ubuntu: apt-get install {name})"


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end a verb as Ctrl-C does: in order, with nothing half-written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    raise SystemExit(main())
