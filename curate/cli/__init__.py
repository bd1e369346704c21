"""The command `tamis`: every sub-command, thin. Each body calls one function; heavy imports happen inside."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from curate.contract.errors import RequestError, TamisError

app = typer.Typer(
    name="tamis",
    help="The finest sieve for instruction data: templates in, a curated set out, and a measurement of what it is worth.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
templates_app = typer.Typer(no_args_is_help=True, help="The template library: list, show, check.")
app.add_typer(templates_app, name="templates")

_INTERRUPTED = 130

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Override an option, as seed=1 or select.budget=500."),
]
RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe (YAML).")]
WorkPath = Annotated[Path, typer.Argument(metavar="WORK", help="A work folder.")]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if debug:
        os.environ["TAMIS_DEBUG"] = "1"


@app.command()
def run(
    recipe: RecipePath,
    work: Annotated[
        Path | None, typer.Option(help="Where everything is written; work/<recipe's name> if not given.")
    ] = None,
    sets: Sets = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="Stop after this stage.")] = None,
    workers: Annotated[int, typer.Option(help="Processes; the output is the same for any number.")] = os.cpu_count()
    or 1,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would run and what is cached.")] = False,
    as_json: Json = False,
) -> None:
    """Run all that a recipe holds. What is unchanged is not run again; a killed run is taken up where it was."""
    from curate.contract import progress
    from curate.run import recipe as recipes
    from curate.run import runner
    from curate.stages import everything as stages

    found = recipes.read(recipe, sets)
    work = work or Path("work") / found.name
    if plan:
        found_stages = stages.plan(found)
        rows: list[dict[str, Any]] = [
            {"stage": s.title, "method": s.method, "options": _short(s.options), "state": runner.state(work, s)}
            for s in found_stages
        ]
        mixture = stages.mixture(found, work, found_stages)
        if as_json and mixture:
            next(row for row in rows if row["stage"].endswith("-mix"))["mixture"] = mixture
        _print(rows, as_json, title=f"{found.name}: what `tamis run` would do in {work}")
        if mixture and not as_json:
            _print(_quotas(mixture), False, title="The mixture", right=("there", "weight", "quota", "share %"))
        return
    with progress.shown():
        outcome = runner.run(found, work, until=until, workers=workers, on_stage=progress.say)
    _funnel(outcome.funnel, as_json)
    if not as_json:
        if "study" in (*outcome.done, *outcome.cached):
            facts = json.loads((work / "study" / "manifest.json").read_text("utf-8"))["facts"]
            _print(_arms(facts["table"]), False, title="Bits per byte of held-out responses: lower is better")
            _say(f"{facts['headline']}\n")
        _say(
            f"Nothing to do: all {len(outcome.cached)} stages are cached in {work}."
            if not outcome.done
            else f"{outcome}."
        )
        for name, path in _products(work) if until is None else ():  # with --until they are of an earlier run
            _say(f"  {name:<8} {path}")


@app.command()
def show(
    work: WorkPath,
    stage: Annotated[str | None, typer.Option(help="Stage folder or name; the last table if not given.")] = None,
    removed: Annotated[
        bool, typer.Option("--removed", help="Rows that left at this stage (at any stage, without --stage).")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Only removed rows whose reason holds this text.")] = None,
    id: Annotated[str | None, typer.Option("--id", help="Everything that happened to one row.")] = None,
    limit: Annotated[int, typer.Option(help="How many rows.")] = 10,
    as_json: Json = False,
) -> None:
    """Look at rows: kept or removed, at any stage, or one row through all of them."""
    from curate.report import show as showing

    rows = showing.rows(work, stage=stage, removed=removed or reason is not None, reason=reason, id=id, limit=limit)
    if as_json or id is not None:
        _print(rows, as_json)
    else:
        _blocks(rows)


@app.command()
def funnel(work: WorkPath, as_json: Json = False) -> None:
    """The funnel of a work folder: rows in and out of every stage, and why rows left."""
    from curate.run import runner

    _funnel(runner.funnel(work), as_json)


@app.command()
def methods(
    kind: Annotated[
        str | None, typer.Argument(help="load, filter, dedup, embed, cluster, select, tuning, objectives")
    ] = None,
    as_json: Json = False,
) -> None:
    """Every method with its options and the first line of its documentation."""
    from curate.contract import methods as found

    if kind is not None and kind not in found.rooms():
        raise RequestError(
            f"there is no kind '{kind}'{found.nearest(kind, found.rooms())}; the kinds are {', '.join(found.rooms())}"
        )
    rows = [
        {"kind": each, "name": method.name, "options": ", ".join(map(str, method.parameters)), "what": method.summary}
        for each in ([kind] if kind else found.rooms())
        for method in found.all_of(each, Path.cwd()).values()
    ]
    _print(rows, as_json)
    if kind in (None, "select") and not as_json:
        shared = ", ".join(parameter.word for parameter in found.signature("curate/rows/constraints.py", "common"))
        _say(
            f"A selector takes these too: {shared}; and its budget in tokens, as {{tokens: 200000, tokenizer: words}}."
        )


@templates_app.command("ls")
def templates_ls(as_json: Json = False) -> None:
    """Every template set of the library."""
    from curate.lint import check

    rows = check.listing()
    _print(rows, as_json)
    if not as_json:
        _say(check.summary(rows))


@templates_app.command("show")
def templates_show(
    name: Annotated[str, typer.Argument(help="As pools/alpaca or flan/sentiment/sst2, or a file.")],
    template: Annotated[str | None, typer.Option(help="Only this one.")] = None,
    derived: Annotated[bool, typer.Option("--derived", help="Also those turned around by rule.")] = False,
    as_json: Json = False,
) -> None:
    """The templates of a set, each rendered on the set's own example."""
    from curate.lint import check

    rows = check.rendered_example(name, Path.cwd(), derived=derived)
    if template is not None:
        known = {row["template"] for row in rows}
        rows = [row for row in rows if row["template"] == template]
        if not rows:
            from curate.contract.methods import nearest

            raise RequestError(f"{name} has no template '{template}'{nearest(template, known)}")
    if as_json:
        return _print(rows, True)
    for row in rows:
        _say(f"── {row['template']} ({row['kind']})")
        for message in row["messages"]:
            _say(f"[{message['role']}]\n{message['content']}")
        _say("")


@templates_app.command("check")
def templates_check(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME|PATH]...", help="Sets to check; the whole library if not given."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Put the rows of this file, folder or glob through the one set named."),
    ] = None,
    header: Annotated[
        str | None, typer.Option(metavar="NAMES", help="The columns of a CSV or TSV without names: sentence,label.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many of its rows.")] = 1_000,
    hub: Annotated[bool, typer.Option("--hub", help="Compare with the Hub: columns, label names, 100 rows.")] = False,
    as_json: Json = False,
) -> None:
    """Look for mistakes in templates. Exit code 1 if there is one."""
    from curate.contract import progress
    from curate.lint import check

    columns = [name.strip() for name in header.split(",")] if header else None
    with progress.shown():
        findings = check.findings(paths or [], Path.cwd(), data=data, header=columns, limit=limit, hub=hub)
    _print(findings, as_json, empty="No findings.")
    if findings:
        raise typer.Exit(1)


@templates_app.command("import")
def templates_import(
    format: Annotated[str, typer.Argument(metavar="FORMAT", help="promptsource, superni or flan.")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file of that format, or a folder of them.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where the files are written; one file goes to the screen without."),
    ] = None,
    compat: Annotated[
        str, typer.Option(help="promptsource: raw cuts nothing; t0 cuts what is printed at 2,048 characters, as P3 is.")
    ] = "raw",
    as_json: Json = False,
) -> None:
    """Another project's templates as sets of ours (SuperNI: as rows). Findings say what is not converted, and why."""
    from curate.contract import progress
    from curate.importers import command

    with progress.shown():
        found = command.imported(format, path, compat)
    if out is not None:
        found.write(out)
    elif not as_json:
        found.write_to(sys.stdout)
    report = found.report(out)
    if as_json:
        print(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        for finding in found.findings:
            print(finding, file=sys.stderr)
        print(report["summary"], file=sys.stderr)
    if not found.converted:
        raise typer.Exit(1)


@app.command()
def train(recipe: RecipePath, work: Annotated[Path | None, typer.Option()] = None, sets: Sets = None) -> None:
    """Fine-tune as the recipe's `train:` says, running what comes before it where needed."""
    run(recipe, work=work, sets=sets, until="model")


@app.command()
def study(recipe: RecipePath, work: Annotated[Path | None, typer.Option()] = None, sets: Sets = None) -> None:
    """Measure what one selected example is worth, as the recipe's `study:` says."""
    run(recipe, work=work, sets=sets, until="study")


@app.command()
def analyse(
    results: Annotated[Path, typer.Argument(help="A study's results.parquet, or any table with the same columns.")],
    as_json: Json = False,
) -> None:
    """The study's statistics from a results table: means, intervals, m(N), the headline."""
    import pyarrow.parquet as pq

    from train.study import analysis

    if not results.is_file():
        raise RequestError(f"{results}: no such file; a study writes its results.parquet into WORK/study")
    found = analysis.facts(analysis.analyse(pq.read_table(results)))
    _print(found["table"] if as_json else _arms(found["table"]), as_json)
    if not as_json:
        _say(found["headline"])


@app.command()
def eval(
    model: Annotated[str, typer.Argument(help="A local model folder or a Hub id.")],
    rows: Annotated[Path, typer.Argument(help="A parquet file or a release folder with `messages`.")],
    by: Annotated[str, typer.Option(help="task, or template: how much the score depends on the phrasing.")] = "task",
    as_json: Json = False,
) -> None:
    """Bits per byte of the responses in a rendered table under a model; by template also accuracy, and its spread."""
    from curate.contract import progress
    from train.scoring import by_template, perplexity

    tables = {"task": perplexity.table, "template": by_template.table}
    if by not in tables:
        raise RequestError(f"--by {by}: there are: {', '.join(tables)}")
    with progress.shown():
        scores = tables[by](model, rows)
    _print(scores, as_json)


@app.command()
def card(work: WorkPath) -> None:
    """Print the card of a work's release."""
    path = work / "release" / "README.md"
    if not path.is_file():
        raise RequestError(f"{work} holds no release; add `release: {{}}` to the recipe and run it")
    _say(path.read_text("utf-8"))


@app.command()
def report(
    work: WorkPath,
    stage: Annotated[str | None, typer.Option(help="A select stage; the last one if not given.")] = None,
    clusters: Annotated[
        str | None, typer.Option(metavar="K,K,…", help="Instead: how many clusters the pool falls into, as 8,16,32,64.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What a selection kept of its pool: diversity against random subsets, shares, lengths, a map, on one page."""
    from curate.contract import progress
    from curate.diversity import against_random as diversity_report
    from curate.report import selection_report

    with progress.shown():
        if clusters is not None:
            lines, said = selection_report.clusters(work, stage, clusters)
            _print(lines, as_json, title="How many clusters")
            if not as_json:
                _say(said)
            return
        path = None if as_json else selection_report.write(work, stage)
        found = selection_report.data(work, stage)
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2, default=str))
        return
    _print(
        diversity_report.rows(found["diversity"]),
        False,
        title="Diversity, against 100 random subsets of the same size (alike: |z| below 3)",
    )
    _say(f"{path}")


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="WORK|RELEASE", help="A work folder, or a release folder.")],
    as_json: Json = False,
) -> None:
    """Check a release offline: metadata, splits, counts, file hashes. Exit code 1 if something is wrong."""
    from curate.release import verify as verifying

    folder = folder / "release" if (folder / "release").is_dir() else folder
    problems = [{"problem": problem} for problem in verifying.verify(folder)]
    _print(problems, as_json, empty=f"{folder}: all is as the manifest says.")
    if problems:
        raise typer.Exit(1)


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete all cached features and tiny models.")] = False,
    as_json: Json = False,
) -> None:
    """What the shared cache holds (vectors, tiny base models), and how large it is."""
    import shutil

    from curate.contract.files import cache_folder

    rows = []
    for folder in sorted(path for path in cache_folder().glob("*/*") if path.is_dir()):
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        rows.append({"kind": folder.parent.name, "name": folder.name, "MB": round(size / 1e6, 1)})
        if clear:
            shutil.rmtree(folder)
    _print(
        rows,
        as_json,
        title=f"{'Deleted from' if clear else 'In'} {cache_folder()}",
        empty=f"{cache_folder()} is empty.",
    )


@app.command()
def doctor(as_json: Json = False) -> None:
    """What this machine and this installation can do."""
    from curate.report import doctor as looking

    _print(looking.report(), as_json)


@app.command()
def demo(
    work: Annotated[Path, typer.Option(help="Where everything is written.")] = Path("work/demo"),
    sets: Sets = None,
    workers: Annotated[int, typer.Option(help="Processes.")] = os.cpu_count() or 1,
) -> None:
    """The whole of the mission on the docstrings of the installed packages: no download, at most eight minutes on 2 cores."""
    from curate.contract.paths import library

    run(library("examples") / "demo" / "recipe.yaml", work=work, sets=sets, workers=workers)


# --- printing --------------------------------------------------------------------------------------------------------


def _products(work: Path) -> list[tuple[str, Path]]:
    places = (
        ("card", "release/README.md"),
        ("data", "release/data"),
        ("model", "model/model"),
        ("report", "study/report.html"),
    )
    return [(name, work / path) for name, path in places if (work / path).exists()]


def _funnel(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        return _print(rows, True)
    shown = [
        {
            "stage": row["stage"],
            "method": row["method"],
            "in": "" if row["in"] is None else f"{row['in']:,}",
            "out": "" if row["out"] is None else f"{row['out']:,}",
            "kept %": "" if row["kept"] is None else f"{100 * row['kept']:.1f}",
            "s": f"{row['seconds']:.1f}",
            "peak MB": f"{row['peak_mb']:,}",
            "why rows left": "; ".join(f"{reason} ({count:,})" for reason, count in row["reasons"][:3]),
        }
        for row in rows
    ]
    _print(shown, False, title="The funnel", right=("in", "out", "kept %", "s", "peak MB"))
    return None


def _quotas(mixture: list[dict[str, Any]]) -> list[dict[str, str]]:
    """A mixture's plan as people read it."""
    return [
        {
            "name": line["name"],
            "there": f"{line['there']:,}",
            "weight": f"{line['weight']:g}",
            "quota": f"{line['quota']:,}",
            "share %": f"{100 * line['share']:.2f}",
        }
        for line in mixture
    ]


def _arms(table: list[dict[str, Any]]) -> list[dict[str, str]]:
    """A study's table as people read it: an arm and budget a row, intervals in brackets."""

    def span(row: dict[str, Any], name: str, digits: int, sign: str = "") -> str:
        value, low, high = (row.get(part) for part in (name, f"{name}_low", f"{name}_high"))
        if value is None:
            return ""
        interval = "" if low is None or high is None else f" [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"
        return f"{value:{sign}.{digits}f}{interval}"

    return [
        {
            "arm": row["arm"],
            "examples": f"{row['budget']:,}",
            "bits per byte": span(row, "bits_per_byte", 3),
            "against the reference": span(row, "difference", 3, "+"),
            "verdict": row.get("verdict") or "reference",
            "m(N)": str(row.get("worth") or ""),
        }
        for row in table
    ]


def _print(
    rows: list[dict[str, Any]],
    as_json: bool,
    *,
    title: str | None = None,
    empty: str = "Nothing.",
    right: tuple[str, ...] = (),
) -> None:
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, indent=2, default=str))
        return
    if not rows:
        _say(empty)
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    view = Table(title=title, box=SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        numeric = name in right or all(isinstance(row.get(name), int | float) for row in rows)
        view.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        view.add_row(*(_cell(row.get(name)) for name in names))
    console = Console(markup=False, highlight=False)
    console.width = console.width if sys.stdout.isatty() else max(console.width, 160)
    console.print(view)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _blocks(rows: list[dict[str, Any]]) -> None:
    """A block a row, a line a column: what a wide table cannot show."""
    from rich.console import Console
    from rich.text import Text

    console = Console(markup=False, highlight=False)
    width = max((len(name) for row in rows for name in row), default=0)
    for row in rows:
        console.print(Text(f"── {row.get('id', '')}", style="bold"))
        for name, value in row.items():
            if name != "id":
                console.print(
                    Text(f"{name:>{width}}  ", style="dim") + Text(str(value)), soft_wrap=not sys.stdout.isatty()
                )
    if not rows:
        _say("Nothing.")


def _short(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items() if value is not None)


def _say(text: str) -> None:
    print(text, flush=True)


# --- entry -----------------------------------------------------------------------------------------------------------


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
    """Runs the command: 0 done, 1 the data or a check says no, 2 the request was wrong, 130 stopped by Ctrl-C."""
    try:
        check_packages()
        code = app(standalone_mode=False) or 0
        if code == _INTERRUPTED:  # typer answers Ctrl-C with this number
            raise KeyboardInterrupt
        sys.exit(code)
    except TamisError as error:
        if os.environ.get("TAMIS_DEBUG"):
            raise
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        print("\nStopped. Nothing is lost: the same command goes on from here.", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # click's own usage errors know how to speak
            error.show()  # type: ignore[attr-defined]
            sys.exit(2)
        raise
