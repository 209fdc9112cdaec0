"""The tables `[simulation]` and `[descent]`: what is integrated, and what is read."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from .._errors import unknown_name
from ._tables import Count, Positive, Seed, Table

FlowName = Literal[
    "gradient",
    "residual_evolving",
    "residual_frozen",
    "linearized",
    "momentum",
    "descent",
    "modified",
]
MeasureName = Literal[
    "kernel_drift",
    "kernel_distance",
    "kernel_velocity",
    "alignment",
    "spectrum",
    "effective_rank",
    "modes",
    "parameter_distance",
    "linearization_gap",
    "energy_defect",
    "conservation",
    "lambda_min",
    "kernel_step",
    "kernel_regression",
    "sharpness",
    "kernel_drift_trace",
    "kernel_distance_trace",
    "kernel_velocity_trace",
    "alignment_trace",
    "spectrum_trace",
    "effective_rank_trace",
    "kernel_step_trace",
    "kernel_regression_trace",
]


class Simulation(Table):
    """How training time is integrated, and what is read."""

    flows: tuple[FlowName, ...] = (
        "gradient",
        "residual_evolving",
        "residual_frozen",
        "linearized",
    )
    """Names of the flows."""

    measures: Literal["default"] | tuple[MeasureName, ...] = "default"
    """`"default"`, or names of measures; those in `_trace` read the trace kernel."""

    t_first: Positive = 1e-3
    """First save time."""

    t_last: Positive = 100.0
    """Last save time."""

    n_times: Annotated[int, Field(ge=2)] = 48
    """Number of save times, evenly spaced in the logarithm."""

    rtol: Positive = 1e-4
    """Relative tolerance."""

    atol: Positive = 1e-6
    """Absolute tolerance."""

    stop_loss: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    """Fraction of the initial training loss at which to stop; 0 never stops."""

    damping: Positive = 1.0
    """γ of the heavy ball, if `"momentum"` is among the flows."""

    max_steps: Count = 1_000_000
    """Steps after which a solve gives up."""

    segment_steps: Count = 64
    """Steps between two reports."""

    global_error: bool = True
    """Whether to estimate the error of the outputs by a run at a looser tolerance."""

    @field_validator("flows", "measures", mode="before")
    @classmethod
    def _check_list(cls, value: Any, info: Any) -> Any:
        """Refuses what is no list, a name with the nearest of the names."""
        whole = ("default",) if info.field_name == "measures" else ()
        if isinstance(value, list | tuple) or value in whole:
            return value
        names = get_args(FlowName if info.field_name == "flows" else MeasureName)
        if isinstance(value, str) and value not in names:
            raise unknown_name(info.field_name.removesuffix("s"), value, names + whole)
        example = value if isinstance(value, str) else names[0]
        raise ValueError(f'expected a list of names, ["{example}"]; got {value!r}.')

    @model_validator(mode="after")
    def _check(self) -> "Simulation":
        if self.t_first >= self.t_last:
            raise ValueError("t_first must be smaller than t_last")
        if not self.flows:
            raise ValueError("flows names no flow")
        return self


class Descent(Table):
    """Discrete training, for the flows `"descent"` and `"modified"`."""

    learning_rate: Positive
    """η, in units of training time."""

    momentum: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    """β of the heavy ball."""

    batch_size: Count | None = None
    """Examples of an update; all of them if left out."""

    seed: Seed = 0
    """Seed of the order in which batches take the examples, a new one every epoch."""
