"""Whether the study's statistics read right: tamis calibrate."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from curate.cli.arguments import Json
from curate.cli.printing import print_json, print_table, say
from curate.contract.errors import RequestError


def calibrate(
    level: Annotated[int, typer.Option(help="0: simulated results, nothing is trained.")] = 0,
    simulations: Annotated[int, typer.Option(help="Of each design; five times as many of the demo's own.")] = 2000,
    only: Annotated[str, typer.Option(help="Designs whose name has this in it.")] = "",
    workers: Annotated[int, typer.Option(help="Processes; the table is the same for any number.")] = os.cpu_count()
    or 1,
    as_json: Json = False,
) -> None:
    """Coverage, error rates and power of the study's statistics: simulated studies with a known truth through the code that
    analyses real ones. 10 minutes on 2 cores; exit code 1 where something that is claimed does not hold."""
    from dataclasses import asdict

    from curate.contract import progress
    from train.study.calibrate import level_0, printed

    if level != 0:
        raise RequestError(
            f"--level {level}: there is level 0, simulated results; planted worlds that are trained are not there yet"
        )
    if simulations < 1:
        raise RequestError(f"--simulations {simulations}: ask for 1 or more")
    with progress.shown():
        lines = level_0(simulations, workers, only)
    if not lines:
        raise RequestError(f"--only {only}: no design has this in its name; run without it to see all")
    failed = [line for line in lines if line.verdict == "fails"]
    if as_json:
        print_json([asdict(line) for line in lines])
    else:
        print_table([printed(line) for line in lines], right=("found", "±"))
        claimed = sum(line.verdict != "" for line in lines)
        say(f"{claimed - len(failed)} of {claimed} claims hold, in {simulations:,} simulated studies a design.")
    if failed:
        raise typer.Exit(1)
