"""The command `tamis`: every sub-command, thin. Each body calls one function; heavy imports happen inside."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from curate.cli import cache, calibrate, look, machine, measure, models, release, run, study, templates
from curate.contract import faults
from curate.contract.errors import RequestError, TamisError

_STOPS = {signal.SIGINT: 130, signal.SIGTERM: 143}  # and the exit codes that shells know them by

app = typer.Typer(
    name="tamis",
    help="The finest sieve for instruction data: templates in, a curated set out, and a measurement of what it is worth.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(templates.app, name="templates")
app.add_typer(cache.app, name="cache")
app.add_typer(models.app, name="models")
for command in (  # in the order of `tamis --help`
    *(run.run, look.show, look.funnel, machine.methods, run.train, study.study, study.floor),
    *(measure.analyse, measure.eval, calibrate.calibrate),
    *(release.card, look.report, release.verify, machine.doctor, run.demo),
):
    app.command()(command)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if debug:
        os.environ["TAMIS_DEBUG"] = "1"


def check_packages() -> None:
    """`train` is a common name for a script: both packages must come from one place."""
    ours = Path(__file__).resolve().parent.parent.parent
    spec = importlib.util.find_spec("train")
    origin = Path(spec.origin).resolve() if spec and spec.origin else None
    if origin is None or origin.parent.parent != ours:
        raise RequestError(
            f"`train` here is {origin or 'missing'}, not Tamis's package; rename that file or start from another folder"
        )


def main() -> None:
    """Runs the command: 0 done, 1 the data, a check or the machine says no, 2 the request was wrong, 130 stopped by Ctrl-C, 143
    by SIGTERM."""
    stopped: list[int] = []

    def stop(number: int, _frame: object) -> None:
        stopped.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for number in _STOPS:
            signal.signal(number, stop)
    try:
        check_packages()
        with faults.one_sentence(but=(BrokenPipeError,)):
            code = app(standalone_mode=False) or 0
        if code == _STOPS[signal.SIGINT]:  # typer answers Ctrl-C with this number
            raise KeyboardInterrupt
        sys.exit(code)
    except BaseException as error:
        if stopped or isinstance(error, KeyboardInterrupt | typer.Abort):  # a library may make another error of it
            _say_stopped(stopped[0] if stopped else signal.SIGINT)
        _say_error(error)


def _say_stopped(number: int) -> NoReturn:
    """From here on a second Ctrl-C ends the process at once."""
    if threading.current_thread() is threading.main_thread():
        for one in _STOPS:
            signal.signal(one, signal.SIG_DFL)
    print("\nStopped. Nothing is lost: the same command goes on from here.", file=sys.stderr)
    sys.exit(_STOPS[signal.Signals(number)])


def _say_error(error: BaseException) -> None:
    """One sentence where we raised it on purpose, or click did; else the traceback."""
    if isinstance(error, TamisError) and not os.environ.get("TAMIS_DEBUG"):
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    if hasattr(error, "show") and hasattr(error, "exit_code"):  # click's own usage errors know how to speak
        error.show()  # type: ignore[attr-defined]
        sys.exit(2)
    raise error
