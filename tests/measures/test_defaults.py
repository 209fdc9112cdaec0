import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.measures import (
    SHARED,
    Alignment,
    Conservation,
    Curvature,
    EnergyDefect,
    KernelDrift,
    KernelRegression,
    KernelStep,
    LambdaMin,
    LinearizationGap,
    Modes,
    Sharpness,
    Spectrum,
    collect_variables,
    default_measures,
)
from ntkflow.models import MLP
from ntkflow.problem import CrossEntropy

from .snapshots import IN, K, N, dense_velocity, make_problem, move, snapshot

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

ALL_FLOWS = ("gradient", "residual_evolving", "residual_frozen", "linearized")


def kinds(problem, flow_names):
    return {type(measure) for measure in default_measures(problem, flow_names)}


def test_defaults_suit_the_problem(key):
    problem = make_problem()
    assert kinds(problem, ALL_FLOWS) - kinds(problem, ["gradient"]) == {
        LinearizationGap
    }
    assert Conservation not in kinds(problem, ALL_FLOWS)
    relu = make_problem(MLP(IN, K, 4, 1, "relu", key=key))
    assert Conservation in kinds(relu, ["gradient", "momentum"])
    assert Conservation not in kinds(relu, ["momentum", "gradient"])
    user = make_problem(
        y=np.zeros((N, 3, 3)), loss=lambda f, y: jnp.sum(f) * jnp.sum(y), test=False
    )
    assert not kinds(user, ALL_FLOWS) & {Alignment, LinearizationGap}
    assert {EnergyDefect, KernelDrift, Modes} <= kinds(user, ALL_FLOWS)


def test_whole_numbers_are_labels_only_if_there_are_as_many_outputs():
    def loss(f, y):
        return jnp.sum(f) * y.astype(f.dtype)

    labels = make_problem(y=np.array([0, 1, 1, 0, 1]), loss=loss, test=False)
    counts = make_problem(y=np.array([0, 3, 1, 7, 2]), loss=loss, test=False)
    assert Alignment in kinds(labels, ALL_FLOWS)
    assert not kinds(counts, ALL_FLOWS) & {Alignment, LinearizationGap}


def test_default_modes_are_clipped_to_the_size_of_the_kernel(key):
    small = make_problem(MLP(IN, 1, 4, 1, key=key))
    measures = default_measures(small, ())
    counts = {m.k for m in measures if isinstance(m, Spectrum | Modes)}
    assert counts == {N}
    assert collect_variables(measures, small)


def test_defaults_read_the_trace_kernel_of_several_outputs(key):
    several = collect_variables(default_measures(make_problem(), ()), make_problem())
    full = {name for name in several if f"{name}_trace" in several}
    assert full == {
        "kernel_drift",
        "kernel_distance",
        "kernel_velocity",
        "alignment",
        "alignment_centered",
        "spectrum",
        "effective_rank",
    }
    single = make_problem(MLP(IN, 1, 4, 1, key=key))
    one = collect_variables(default_measures(single, ()), single)
    assert not any(name.endswith("_trace") for name in one)


def test_measures_that_cannot_share_a_dataset_are_refused():
    problem = make_problem()
    with pytest.raises(ValueError, match="write the variable 'kernel_drift'"):
        collect_variables([KernelDrift(), KernelDrift()], problem)
    with pytest.raises(ValueError, match="give them the same k"):
        collect_variables([Spectrum(None), Modes(4)], problem)
    both = collect_variables([Spectrum(2, "trace"), Spectrum(4), Modes(4)], problem)
    assert both["spectrum_trace"].dims == ("mode_trace",)
    assert collect_variables([Spectrum(None), Modes(N * K)], problem)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("targets", ["rows", "labels"])
def test_every_measure_writes_what_it_declares_in_the_problems_dtype(
    dtype, targets, key
):
    model = MLP(IN, K, 4, 1, "relu", key=key, dtype=dtype)
    options = (
        {"y": np.array([0, 1, 1, 0, 1]), "loss": CrossEntropy()}
        if targets == "labels"
        else {}
    )
    problem = make_problem(model, dtype=dtype, **options)
    others = (LambdaMin(), Sharpness(), KernelStep(), KernelRegression())
    measures = (*default_measures(problem, ALL_FLOWS), *others)
    assert all(measure.needs <= SHARED for measure in measures)
    first = snapshot(problem)
    params = move(problem)
    now = snapshot(
        problem,
        params,
        # The solver's time may be wider than the parameters.
        jnp.asarray(0.5, np.float64),
        velocity=dense_velocity(problem, params),
        curvature=Curvature(*(jnp.asarray(v, dtype) for v in (2.0, 0.1, [1.0]))),
        kernel_before=first.kernel,
        time_before=jnp.asarray(0.25, np.float64),
        kernel_test=first.kernel[:4],
        linearized=np.zeros((N, K)),
        linearized_test=np.zeros((4, K)),
        quadrature=0.1,
    )
    variables = collect_variables(measures, problem)
    read = {}

    @eqx.filter_jit
    def together(first, now):
        prepared = [measure.prepare(first) for measure in measures]
        return [m(now, p) for m, p in zip(measures, prepared, strict=True)]

    for measure, values in zip(measures, together(first, now), strict=True):
        assert set(values) == set(measure.variables(problem))
        assert measure.flops(problem) > 0
        read.update(values)
    lengths = {"mode": N * K, "mode_trace": N}
    for name, value in read.items():
        variable = variables[name]
        for dim, labels in variable.coords.items():
            lengths[dim] = len(labels)
        assert value.shape == tuple(lengths[dim] for dim in variable.dims), name
        assert value.dtype == dtype, name
        assert np.all(np.isfinite(value)), name
