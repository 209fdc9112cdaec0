"""The commands of `ntkflow`.

What is heavy is imported inside the commands, so that `ntkflow --help` answers at once
and float64 is switched on before the first array is made.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ._exit import FAILED, STATUSES, WRONG_CALL, telling_how_to_go_on

app = typer.Typer(
    help="Training of neural networks as coupled differential equations.",
    epilog=STATUSES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one entry: --set model.width=256. Repeatable."),
]


def _fail(error: Exception, status: int = WRONG_CALL) -> typer.Exit:
    """Prints an error for a person and ends with a status."""
    # Unwrapped, so that paths and commands can be copied.
    Console(stderr=True).print(
        f"[red]Error:[/red] {_escape(str(error))}", soft_wrap=True
    )
    return typer.Exit(status)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


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
        check_directory,
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
    console = Console()
    try:
        tables = read_toml(experiment) if is_file else load_builtin(experiment)
        description = parse_experiment(override(tables, settings), experiment)
        _set_precision(description.precision)
        check_directory(description, folder, resume=resume)
        console.print(f"{description.title}. Results: {folder}", highlight=False)
        trajectory = run_experiment(description, folder, name=name, resume=resume)
    except (ValueError, ModuleNotFoundError) as error:
        raise _fail(error) from error
    from ..plots import answers, report

    page = report_path(folder)
    report(trajectory, page, title=description.title)
    console.print()
    for sentence in answers(trajectory.dataset):
        console.print(f"• {_escape(sentence)}", highlight=False)
    console.print(f"\nReport: {page}", highlight=False, soft_wrap=True)
    if trajectory.reason.failed:
        raise _fail(RuntimeError(trajectory.reason.message), FAILED)


@app.command("list")
def list_experiments() -> None:
    """Names the built-in experiments."""
    from ..experiments import builtin_names, load_builtin

    console = Console()
    for name in builtin_names():
        console.print(
            f"{name:<14}{load_builtin(name)['title']}", highlight=False, soft_wrap=True
        )


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
    Console().print(f"Report: {page}", highlight=False, soft_wrap=True)


@app.command()
def doctor() -> None:
    """Tells what this machine computes on, how precisely and how fast."""
    from ..experiments import diagnose

    _set_precision("float64")
    console = Console()
    for name, value in diagnose().items():
        console.print(f"{name:<26}{_escape(value)}", highlight=False, soft_wrap=True)


def _set_precision(precision: str) -> None:
    import jax

    jax.config.update("jax_enable_x64", precision == "float64")
