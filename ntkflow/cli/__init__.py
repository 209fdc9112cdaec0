"""The command line: typer commands over the other rooms, no numerics."""

from ._app import app as app
