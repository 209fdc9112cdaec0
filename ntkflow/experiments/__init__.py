"""Experiments as text: their description, the built-in ones, and how one is run."""

from ._build import build_problem as build_problem
from ._description import Experiment as Experiment
from ._diagnose import diagnose as diagnose
from ._directory import (
    load_results as load_results,
    report_path as report_path,
)
from ._load import (
    load_experiment as load_experiment,
    override as override,
    parse_experiment as parse_experiment,
    read_toml as read_toml,
)
from ._registry import (
    builtin_names as builtin_names,
    load_builtin as load_builtin,
)
from ._run import run_experiment as run_experiment
from ._schema import schema as schema
