"""What a TOML file may say: one pydantic model a table.

A description is plain data. It names things; `_build.py` and `_build_simulation.py`
make them.
"""

from typing import Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from ..models import ACTIVATIONS, resolve_activation
from ._simulation import Descent, Simulation
from ._solver import Auto, Solver
from ._tables import Count, NotNegative, Positive, Seed, Table

_ACTIVATIONS: list[JsonValue] = [*sorted(ACTIVATIONS)]


class Data(Table):
    """Where the examples come from."""

    name: Literal["digits", "mnist", "file", "linear_teacher"] = "digits"
    """`"digits"`, `"mnist"` (extra `data`), `"file"`, or `"linear_teacher"`: whitened
    Gaussian inputs with targets of a linear map of given strengths."""

    n_train: Count = 200
    """Training examples."""

    n_test: int = Field(default=200, ge=0)
    """Test examples."""

    seed: Seed = 0
    """Seed of the split, or of the teacher."""

    targets: Literal["onehot", "centered", "labels", "regression"] = "centered"
    """How the targets are encoded; `"centered"` is one-hot less 1/K."""

    classes: tuple[int, ...] | None = None
    """Classes to keep; all of them if left out."""

    path: str | None = None
    """The file, for `"file"`: an `.npz` archive with arrays `x` and `y`."""

    strengths: tuple[Positive, ...] = (4.0, 2.0, 1.0)
    """Singular values of the teacher's map, for `"linear_teacher"`."""

    in_size: Count = 16
    """Inputs of the teacher."""

    out_size: Count = 4
    """Outputs of the teacher."""

    @model_validator(mode="after")
    def _check(self) -> "Data":
        if (self.name == "file") != (self.path is not None):
            raise ValueError('path goes with name = "file", and only with it')
        if len(self.strengths) > min(self.in_size, self.out_size):
            raise ValueError("there are more strengths than inputs or outputs")
        return self


class Model(Table):
    """The network, and the wrappers around it."""

    name: Literal["mlp", "cnn", "residual_mlp", "deep_linear", "neural_ode"] = "mlp"
    """The network; `"neural_ode"` has a dense layer before and one behind its depth."""

    width: Count = 128
    """Hidden units, or channels of a convolutional network; of a Neural ODE those of
    its vector field."""

    depth: Count = 2
    """Hidden layers; of a Neural ODE those of its vector field."""

    activation: str = Field(default="tanh", json_schema_extra={"enum": _ACTIVATIONS})
    """The activation; not for `"deep_linear"`."""

    parameterization: Literal["ntk", "standard", "mean_field"] = "ntk"
    """Where the scales of the weights stand."""

    w_std: Positive | None = None
    """Standard deviation of the weights, of a Neural ODE those of its vector field; the
    network's default if left out."""

    b_std: NotNegative = 0.1
    """Standard deviation of the biases; `"deep_linear"` has none."""

    seed: Seed = 0
    """Seed of the initialization."""

    antisymmetric: bool = False
    """Whether to start from f = 0 with two copies of opposite sign."""

    alpha: Positive = 1.0
    """Output scale α; 1 leaves the network as it is."""

    centered: bool = True
    """Whether a scaled network has its initial outputs taken off."""

    state_size: Count = 16
    """Numbers in the hidden state, for `"neural_ode"`."""

    t1: Positive = 1.0
    """Where depth ends, for `"neural_ode"`."""

    concat_time: bool = False
    """Whether the vector field sees the depth, for `"neural_ode"`."""

    depth_rtol: Positive | None = None
    """Tolerance of the solve in depth, for `"neural_ode"`; that of `nf.models.Depth` if
    left out."""

    depth_max_steps: Count = 256
    """Steps that a solve in depth may take, for `"neural_ode"`; the more, the longer it
    is compiled."""

    @field_validator("activation")
    @classmethod
    def _check_activation(cls, name: str) -> str:
        resolve_activation(name)
        return name

    @model_validator(mode="after")
    def _check(self) -> "Model":
        for key in ("state_size", "t1", "concat_time", "depth_rtol", "depth_max_steps"):
            changed = getattr(self, key) != type(self).model_fields[key].default
            if changed and self.name != "neural_ode":
                raise ValueError(f'{key} goes with name = "neural_ode" only')
        return self


class Training(Table):
    """What is minimized, and how fast."""

    loss: Literal["squared_error", "cross_entropy", "hinge"] = "squared_error"
    """The loss of an example."""

    reduction: Literal["sum", "mean"] = "sum"
    """Whether the losses of the examples are summed or averaged."""

    decay: NotNegative = 0.0
    """L2 decay; 0 for none."""

    decay_towards: Literal["zero", "initial"] = "zero"
    """Whether parameters decay to zero or to where they started."""


class Experiment(Table):
    """A whole experiment."""

    title: str = "An experiment of one's own"
    """One line that says what it shows."""

    precision: Literal["float64", "float32"] = "float64"
    """The dtype of data and parameters."""

    data: Data = Data()
    """The examples."""

    model: Model = Model()
    """The network."""

    training: Training = Training()
    """The loss."""

    simulation: Simulation = Simulation()
    """The integration."""

    solver: Solver = Auto()
    """The solver of all flows, by name, with its options."""

    descent: Descent | None = None
    """Discrete training; only with a flow that needs it."""

    @field_validator("title")
    @classmethod
    def _check_title(cls, title: str) -> str:
        # It heads terminals and pages, where control characters do harm.
        if not title.isprintable():
            raise ValueError(
                f"expected one line of printable characters, got {title!r}."
            )
        return title

    @model_validator(mode="after")
    def _check(self) -> "Experiment":
        discrete = [f for f in self.simulation.flows if f in {"descent", "modified"}]
        if discrete and self.descent is None:
            raise ValueError(
                f"simulation.flows names {discrete[0]!r}, which needs a table "
                "[descent] with its learning_rate."
            )
        if self.descent is None:
            return self
        if not discrete:
            raise ValueError(
                "[descent] goes with the flows 'descent' and 'modified', and "
                f"simulation.flows names neither: {', '.join(self.simulation.flows)}."
            )
        if "modified" in discrete and self.descent.batch_size is not None:
            raise ValueError(
                "the flow 'modified' covers descent in full batches only: leave out "
                "descent.batch_size, or the flow."
            )
        return self
