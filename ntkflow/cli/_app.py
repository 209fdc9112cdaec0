"""The commands of `ntkflow`.

What is heavy is imported inside the commands, so that `ntkflow --help` answers at once
and float64 is switched on before the first array is made.
"""

import importlib.metadata
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from ._exit import FAILED, STATUSES, WRONG_CALL, telling_how_to_go_on

app = typer.Typer(
    epilog=STATUSES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one entry: --set model.width=256. Repeatable."),
]


def _console(*, stderr: bool = False) -> Console:
    """A console that prints texts as they are: titles and paths are a person's own."""
    # Unwrapped, so that paths and commands can be copied.
    return Console(
        stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True
    )


def _fail(error: Exception, status: int = WRONG_CALL) -> typer.Exit:
    """Prints an error for a person and ends with a status."""
    _console(stderr=True).print(Text.assemble(("Error:", "red"), f" {error}"))
    return typer.Exit(status)


def _print_version(asked: bool) -> bool:
    """Prints the version and ends, if asked to."""
    if asked:
        _console().print(f"ntkflow {importlib.metadata.version('ntkflow')}")
        raise typer.Exit
    return asked


@app.callback()
def main(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Training of neural networks as coupled differential equations."""


@app.command(epilog=STATUSES)
def run(
    experiment: Annotated[
        str, typer.Argument(help="A built-in experiment, or a TOML file.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Directory of results; runs/NAME by default.")
    ] = None,
    settings: Sets = None,
    *,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with an interrupted run; start one if there is none.",
        ),
    ] = False,
) -> None:
    """Simulates an experiment and writes its results and a report."""
    command = ["ntkflow", "run", experiment]
    command += [] if out is None else ["--out", str(out)]
    command += [word for setting in settings or [] for word in ("--set", setting)]
    with telling_how_to_go_on([*command, "--resume"]):
        _run(experiment, out, settings or [], resume=resume)


def _run(
    experiment: str, out: Path | None, settings: list[str], *, resume: bool
) -> None:
    from ..experiments import (
        load_builtin,
        override,
        parse_experiment,
        read_toml,
        report_path,
        run_experiment,
    )

    is_file = experiment.endswith(".toml")
    name = Path(experiment).stem if is_file else experiment
    folder = Path("runs") / name if out is None else out
    try:
        tables = read_toml(experiment) if is_file else load_builtin(experiment)
        description = parse_experiment(override(tables, settings), experiment)
        _set_precision(description.precision)
        trajectory = run_experiment(description, folder, name=name, resume=resume)
    except (ValueError, ModuleNotFoundError) as error:
        raise _fail(error) from error
    from ..plots import answers, report

    page = report_path(folder)
    report(trajectory, page)
    console = _console()
    console.print()
    for sentence in answers(trajectory.dataset):
        console.print(f"• {sentence}")
    console.print(f"\nReport: {page}")
    if trajectory.reason.failed:
        raise _fail(RuntimeError(trajectory.reason.message), FAILED)


@app.command("list")
def list_experiments() -> None:
    """Names the built-in experiments."""
    from ..experiments import builtin_names, load_builtin

    console = _console()
    for name in builtin_names():
        console.print(f"{name:<14}{load_builtin(name)['title']}")


@app.command("report")
def rebuild_report(
    folder: Annotated[
        Path, typer.Argument(help="Directory of a run, or a saved trajectory.")
    ],
) -> None:
    """Builds the report again from saved results, of an unfinished run too."""
    from ..experiments import load_results, report_path
    from ..plots import report

    try:
        trajectory = load_results(folder)
    except ValueError as error:
        raise _fail(error) from error
    page = report_path(folder)
    with telling_how_to_go_on(["ntkflow", "report", str(folder)]):
        report(trajectory, page)
    _console().print(f"Report: {page}")


@app.command("schema")
def print_schema() -> None:
    """Prints the JSON schema of experiments, for editors of TOML."""
    from ..experiments import schema

    typer.echo(json.dumps(schema(), indent=2, ensure_ascii=False))


@app.command()
def doctor() -> None:
    """Tells what this machine computes on, how precisely and how fast."""
    from ..experiments import diagnose

    _set_precision("float64")
    console = _console()
    for name, value in diagnose().items():
        console.print(f"{name:<26}{value}")


def _set_precision(precision: str) -> None:
    import jax

    jax.config.update("jax_enable_x64", precision == "float64")
