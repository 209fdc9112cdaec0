"""What a TOML file may say: one pydantic model a table.

A description is plain data. It names things; `_build.py` makes them.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..models import resolve_activation

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class _Table(BaseModel):
    """A table that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Table):
    """Where the examples come from.

    Attributes:
        name: `"digits"`, `"mnist"` (extra `data`), `"file"`, or `"linear_teacher"`:
            whitened Gaussian inputs with targets of a linear map of given strengths.
        n_train: Training examples.
        n_test: Test examples.
        seed: Seed of the split, or of the teacher.
        targets: `"onehot"`, `"centered"`, `"labels"` or `"regression"`.
        classes: Classes to keep, of digits; all of them if left out.
        path: The file, for `"file"`.
        strengths: Singular values of the teacher's map, for `"linear_teacher"`.
        in_size: Inputs of the teacher.
        out_size: Outputs of the teacher.
    """

    name: Literal["digits", "mnist", "file", "linear_teacher"] = "digits"
    n_train: Count = 200
    n_test: Annotated[int, Field(ge=0)] = 200
    seed: int = 0
    targets: Literal["onehot", "centered", "labels", "regression"] = "centered"
    classes: tuple[int, ...] | None = None
    path: str | None = None
    strengths: tuple[Positive, ...] = (4.0, 2.0, 1.0)
    in_size: Count = 16
    out_size: Count = 4

    @model_validator(mode="after")
    def _check(self) -> "Data":
        if (self.name == "file") != (self.path is not None):
            raise ValueError('path goes with name = "file", and only with it')
        if len(self.strengths) > min(self.in_size, self.out_size):
            raise ValueError("there are more strengths than inputs or outputs")
        return self


class Model(_Table):
    """The network, and the wrappers around it.

    Attributes:
        name: `"mlp"`, `"cnn"`, `"residual_mlp"` or `"deep_linear"`.
        width: Hidden units, or channels of a convolutional network.
        depth: Hidden layers.
        activation: By name; not for `"deep_linear"`.
        parameterization: `"ntk"`, `"standard"` or `"mean_field"`.
        w_std: Standard deviation of the weights; the network's default if left out.
        b_std: Standard deviation of the biases; none at all for `"deep_linear"`.
        seed: Seed of the initialization.
        antisymmetric: Whether to start from f = 0 with two copies of opposite sign.
        alpha: Output scale α; 1 leaves the network as it is.
        centered: Whether a scaled network has its initial outputs taken off.
    """

    name: Literal["mlp", "cnn", "residual_mlp", "deep_linear"] = "mlp"
    width: Count = 128
    depth: Count = 2
    activation: str = "tanh"
    parameterization: Literal["ntk", "standard", "mean_field"] = "ntk"
    w_std: Positive | None = None
    b_std: Annotated[float, Field(ge=0)] = 0.1
    seed: int = 0
    antisymmetric: bool = False
    alpha: Positive = 1.0
    centered: bool = True

    @field_validator("activation")
    @classmethod
    def _check_activation(cls, name: str) -> str:
        resolve_activation(name)
        return name


class Training(_Table):
    """What is minimized, and how fast.

    Attributes:
        loss: `"squared_error"`, `"cross_entropy"` or `"hinge"`.
        reduction: `"sum"` or `"mean"`.
        decay: L2 decay; 0 for none.
        decay_towards: `"zero"` or `"initial"`.
    """

    loss: Literal["squared_error", "cross_entropy", "hinge"] = "squared_error"
    reduction: Literal["sum", "mean"] = "sum"
    decay: Annotated[float, Field(ge=0)] = 0.0
    decay_towards: Literal["zero", "initial"] = "zero"


FlowName = Literal[
    "gradient", "residual_evolving", "residual_frozen", "linearized", "momentum"
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


class Simulation(_Table):
    """How training time is integrated, and what is read.

    Attributes:
        flows: Names of the flows.
        measures: `"default"`, or names of measures.
        t_first: First save time.
        t_last: Last save time.
        n_times: Number of save times, evenly spaced in the logarithm.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        stop_loss: Stop when the training loss falls to this fraction of its start; 0
            never stops.
        damping: γ of the heavy ball, if `"momentum"` is among the flows.
        max_steps: Steps after which a solve gives up.
        segment_steps: Steps between two reports.
        global_error: Whether to estimate the error of the outputs by a second run at a
            looser tolerance.
    """

    flows: tuple[FlowName, ...] = (
        "gradient",
        "residual_evolving",
        "residual_frozen",
        "linearized",
    )
    measures: Literal["default"] | tuple[MeasureName, ...] = "default"
    t_first: Positive = 1e-3
    t_last: Positive = 100.0
    n_times: Annotated[int, Field(ge=2)] = 48
    rtol: Positive = 1e-4
    atol: Positive = 1e-6
    stop_loss: Annotated[float, Field(ge=0, lt=1)] = 0.0
    damping: Positive = 1.0
    max_steps: Count = 1_000_000
    segment_steps: Count = 64
    global_error: bool = True

    @model_validator(mode="after")
    def _check(self) -> "Simulation":
        if self.t_first >= self.t_last:
            raise ValueError("t_first must be smaller than t_last")
        if not self.flows:
            raise ValueError("flows names no flow")
        return self


class Experiment(_Table):
    """A whole experiment.

    Attributes:
        title: One line that says what it shows.
        precision: `"float64"` or `"float32"`.
        data: The examples.
        model: The network.
        training: The loss.
        simulation: The integration.
    """

    title: str = "An experiment of one's own"
    precision: Literal["float64", "float32"] = "float64"
    data: Data = Data()
    model: Model = Model()
    training: Training = Training()
    simulation: Simulation = Simulation()
