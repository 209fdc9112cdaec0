"""`python -m ntkflow` is the command line."""

from .cli import app

app()
