import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.flatten_util import ravel_pytree

from ntkflow.flows import (
    Descent,
    Gradient,
    Linearized,
    Modified,
    Momentum,
    Quadrature,
    Residual,
    max_over_flows,
)
from ntkflow.problem import CrossEntropy, Decay, Problem
from ntkflow.solvers import Code, KernelExponential, _decomposition
from ntkflow.solvers._decomposition import start
from ntkflow.solvers._functions_of_a import FunctionsOfA
from ntkflow.solvers._gauss_newton import GaussNewton
from tests.simulate.problems import tiny
from tests.solvers.flows import (
    EVERY,
    affine_solution,
    gap,
    initial,
    linear,
    moved,
    reference,
    slope,
    term_of,
)
from tests.solvers.krogstad import START, integrate, stiff_problem
from tests.solvers.quick import quick_jit
from tests.tolerances import roundoff, solver

TARGETS = jax.nn.softmax(jax.random.normal(jax.random.key(1), (9, 2)))


def softmax_problem(**options):
    """`tiny`, with probabilities for targets."""
    problem = tiny()
    return Problem(
        problem.model,
        problem.x,
        TARGETS[:6],
        x_test=problem.x_test,
        y_test=TARGETS[6:],
        loss=CrossEntropy(),
        **options,
    )


def steps_of(term, y0, h, n, state=None, method=None, saveat=None):
    """n steps of length h, compiled once for all n and h."""
    method = KernelExponential() if method is None else method
    saveat = dfx.SaveAt(t1=True) if saveat is None else saveat
    return compiled_steps(
        term, y0, jnp.asarray(h), jnp.asarray(n * h), state, method, saveat
    )


@quick_jit
def compiled_steps(term, y0, h, end, state, method, saveat):
    return dfx.diffeqsolve(
        term,
        method,
        0.0,
        end,
        h,
        y0,
        saveat=saveat,
        solver_state=state,
        max_steps=4096,
        adjoint=dfx.ForwardMode(),
    )


def adaptively(term, y0, ts, rtol, atol=None, method=None, **options):
    return dfx.diffeqsolve(
        term,
        KernelExponential() if method is None else method,
        0.0,
        ts[-1],
        None,
        y0,
        saveat=dfx.SaveAt(ts=ts, solver_state=True),
        stepsize_controller=dfx.PIDController(
            rtol=rtol, atol=rtol if atol is None else atol, **options
        ),
        max_steps=4096,
        adjoint=dfx.ForwardMode(),
    )


adaptive = quick_jit(adaptively)


def last(ys):
    return {name: own[-1] for name, own in ys.items()}


def dense_phi(k, matrix):
    """φ_k of a matrix: a block of the exponential of a larger one."""
    n = len(matrix)
    whole = np.zeros(((k + 1) * n, (k + 1) * n))
    whole[:n, :n] = matrix
    for j in range(k):
        whole[j * n : (j + 1) * n, (j + 1) * n : (j + 2) * n] = np.eye(n)
    return scipy.linalg.expm(whole)[:n, k * n :]


@pytest.mark.parametrize(
    "problem", [tiny(decay=0.7), softmax_problem(), tiny(n=12)], ids=["a", "b", "c"]
)
def test_functions_of_a_are_those_of_the_dense_matrix(problem):
    flows = (*EVERY, Quadrature(Gradient()), Momentum(0.7))
    term = term_of(problem, flows)
    y = moved(initial(term), 0.1)
    decomposition = quick_jit(lambda y: start(term, y)[0])(y)
    a = GaussNewton(term, decomposition.base)
    flat, unravel = ravel_pytree(y)

    def apply(flat):
        v = unravel(flat)
        driven, free = a.drive(a.read(v)), a.free
        kept = {
            n: -driven[n] - free[n].shift * own if n in driven else jnp.zeros_like(own)
            for n, own in v.items()
        }
        position, velocity = jnp.split(v["momentum"], 2)
        force = -free["momentum"].shift * position - 0.7 * velocity
        own = jnp.concatenate([velocity, force]) - driven["momentum"]
        return ravel_pytree(kept | {"momentum": own})[0]

    matrix = np.asarray(quick_jit(jax.jacfwd(apply))(flat))
    h, weights = jnp.asarray(0.3), {1: 0.5, 2: -1, 3: 4}
    exact = sum(w * dense_phi(k, 0.3 * matrix) for k, w in weights.items())

    @quick_jit
    def found(given, other):
        functions = FunctionsOfA(term, decomposition)
        # A vector part of which is still to be driven.
        v = functions.split(given)._replace(modes=functions.split(other).seen)
        whole = functions.join(v)
        v = v._replace(seen=functions.split(whole).seen)
        image = functions.phi(functions.over(h), weights, v)
        joined = functions.join(image)
        return whole, joined, image.seen, functions.split(joined).seen

    whole, image, seen, expected_seen = found(moved(y, 1.0, 1), moved(y, 1.0, 2))
    whole, _ = ravel_pytree(whole)
    expected = unravel(jnp.asarray(exact @ np.asarray(whole)))
    scale = float(jnp.abs(whole).max())
    assert gap(image, expected) < roundoff(500) * scale
    assert gap(seen, expected_seen) < roundoff(2000) * scale


# Under decay the evolving residual is driven by θ(t), through no loop of its own.
FROZEN = (EVERY[0], EVERY[2])
LINEAR = {
    "rank deficient": ({"copies": 2}, EVERY),
    "decay": ({"decay": 0.3, "copies": 2}, (*FROZEN, EVERY[3])),
    "heavy ball": ({"decay": 0.3, "copies": 2}, (Momentum(0.2),)),
    "decay to the start": ({"decay": Decay(2.0, towards="initial")}, FROZEN),
    "mean, more outputs than parameters": ({"reduction": "mean", "n": 6}, FROZEN),
}


@pytest.mark.parametrize("case", LINEAR)
def test_linear_model_is_exact_in_one_step(case):
    options, flows = LINEAR[case]
    term = term_of(linear(**options), flows)
    y0 = initial(term)
    exact = affine_solution(term, y0)
    for length in (0.01, 100.0):
        found = steps_of(term, y0, length, 1)
        assert int(found.stats["num_steps"]) == 1
        assert gap(last(found.ys), exact(length)) < roundoff(100) * max(1, length)


def test_dense_output_is_exact_inside_a_layer():
    term = term_of(linear(copies=2, decay=0.3), FROZEN)
    y0 = initial(term)
    ts = jnp.array([0.0, 1e-3, 0.02, 0.1, 0.5, 3.0, 40.0])
    found = steps_of(term, y0, 40.0, 1, saveat=dfx.SaveAt(ts=ts)).ys
    exact = affine_solution(term, y0)
    for i, t in enumerate(ts):
        at = {name: own[i] for name, own in found.items()}
        assert gap(at, exact(float(t))) < roundoff(2000)


def perturbed_state(method, term, y0):
    """A solver's state linearized where the flows never are."""
    state = method.init(term, 0.0, 0.1, moved(y0, 0.3), None)
    return eqx.tree_at(lambda s: s.f, state, term.vf(0.0, y0, None))


NONLINEAR = {
    "squared error": (tiny(time_scale=0.3), EVERY),
    "decay": (tiny(time_scale=0.3, decay=0.5), (*FROZEN, Quadrature(Gradient()))),
    "cross-entropy": (softmax_problem(), EVERY[:2]),
}
BALL = {"heavy ball": (tiny(time_scale=0.3, decay=0.5), (Momentum(0.4),))}


@pytest.mark.parametrize("case", NONLINEAR | BALL)
def test_classical_order_is_four_whatever_the_base(case):
    problem, flows = (NONLINEAR | BALL)[case]
    term = term_of(problem, flows)
    y0 = initial(term)
    end = 1.0
    exact = last(reference(term, y0, [end]))
    state = perturbed_state(KernelExponential(), term, y0)
    counts = np.array([8, 16, 32, 64])
    errors = [
        gap(last(steps_of(term, y0, end / n, n, state).ys), exact) for n in counts
    ]
    assert slope(end / counts, errors) == pytest.approx(4, abs=0.2)


def test_dense_output_is_of_order_four():
    term = term_of(tiny(time_scale=0.3), [Gradient()])
    y0 = initial(term)
    state = perturbed_state(KernelExponential(), term, y0)
    lengths = np.array([0.2, 0.1, 0.05, 0.025])
    errors = []
    for h in lengths:
        ts = jnp.array([0.3, 0.7]) * h
        found = steps_of(term, y0, h, 1, state, saveat=dfx.SaveAt(ts=ts)).ys
        errors.append(gap(found, reference(term, y0, ts)))
    # The local error of an order is one power of h more.
    assert slope(lengths, errors) == pytest.approx(5, abs=0.2)


def test_estimate_sees_a_curvature_that_has_gone():
    problem = tiny()
    problem = Problem(
        problem.model, problem.x, jnp.asarray([0, 1, 0, 1, 1, 0]), loss=CrossEntropy()
    )
    term = term_of(problem, [Gradient()])
    y0 = initial(term)
    late = last(reference(term, y0, [300.0]))
    method = KernelExponential()
    old = method.init(term, 0.0, 1.0, y0, None)
    new = method.init(term, 0.0, 1.0, late, None)
    old = old._replace(f=new.f)

    @quick_jit
    def attempt(h, state):
        tried = method.attempt(term, 0.0, h, late, None, state, made_jump=False)
        return tried.y1, tried.y_error, tried.state.serves

    # Up to where the stages hardly move, past where all of them agree by chance.
    for h in jnp.array([8.0, 12.0, 40.0, 120.0]) / method.radius(old):
        exact = last(reference(term, late, [h]))
        y1, estimate, _ = attempt(h, old)
        error = gap(y1, exact)
        estimate = float(jnp.abs(estimate["gradient"]).max())
        assert error / 3 < estimate < 3 * error
        y1, _, serves = attempt(h, new)
        assert gap(y1, exact) < 1e-2 * error
        assert serves


@pytest.mark.parametrize("count", [4, 64])
def test_stiff_steps_are_those_of_the_dense_method(count):
    term = term_of(stiff_problem(1000.0), [Gradient()])
    y0 = {"gradient": jnp.linspace(0.0, 0.3, 12)}
    start = initial(term)
    state = KernelExponential().init(term, 0.0, 0.1, start, None)
    state = state._replace(f=term.vf(0.0, y0, None))
    found = last(steps_of(term, y0, 2 / count, count, state).ys)
    expected = integrate(1000.0, np.asarray(y0["gradient"]), START, 2.0, count)
    # A state differs by the round-off of its rates, the largest of them 1e5.
    assert gap(found, {"gradient": expected}) < roundoff(1000)


def test_stiff_order_is_at_least_three():
    counts = np.array([16, 32, 64, 128])
    errors = []
    for n in counts:
        # At a fixed hλ: the bound is one for all λ, and each has its own slope.
        stiffness = 30 / (2 / n)
        after_layer = integrate(stiffness, START, START, 1.0, 4000)
        exact = integrate(stiffness, after_layer, after_layer, 2.0, 4096)
        found = integrate(stiffness, after_layer, START, 2.0, n)
        errors.append(np.abs(found - exact).max())
    assert slope(2 / counts, errors) > 3 - 0.2


def test_solution_agrees_with_dopri8():
    problem, flows = NONLINEAR["squared error"]
    term = term_of(problem, flows)
    y0 = initial(term)
    ts = jnp.array([0.05, 0.7, 1.5])
    # One mean over all flows would hide the error of the single number q.
    found = adaptive(term, y0, ts, 1e-8, norm=max_over_flows)
    expected = reference(term, y0, ts, 1e-10)
    assert gap(found.ys, expected) < solver(1e-8, factor=300)


def test_single_precision_is_kept():
    problem = tiny(dtype=jnp.float32, decay=0.1)
    term = term_of(problem, [Gradient(), Residual("frozen")])
    y0 = initial(term)
    ts = jnp.array([0.1, 1.0], jnp.float32)
    found = adaptive(term, y0, ts, 1e-4)
    assert all(own.dtype == jnp.float32 for own in found.ys.values())
    expected = reference(term, y0, ts, 1e-6)
    assert gap(found.ys, expected) < solver(1e-4)


def test_both_dense_outputs_are_kept_whole():
    term = term_of(tiny(), [Gradient()])
    y0 = initial(term)
    expected = reference(term, y0, [0.77])
    for dense, tolerance in (("exact", 1e-6), ("hermite", 1e-4)):
        method = KernelExponential(dense=dense)
        saveat = dfx.SaveAt(dense=True, t1=True)
        found = steps_of(term, y0, 0.02, 50, method=method, saveat=saveat)
        at = found.evaluate(0.77)
        assert gap(at, last(expected)) < tolerance


def test_dense_output_gives_changes_within_a_step():
    term = term_of(tiny(), [Gradient(), Residual("frozen")])
    y0 = initial(term)
    method = KernelExponential()

    @quick_jit
    def read():
        h = jnp.asarray(0.1)
        state = method.init(term, 0.0, h, y0, None)
        tried = method.attempt(term, 0.0, h, y0, None, state, made_jump=False)
        inside = method.interpolation_cls(t0=0.0, t1=h, **tried.dense_info)
        early, late = jnp.asarray(0.02), jnp.asarray(0.07)
        ends = inside.evaluate(h), tried.y1
        return (
            ends,
            inside.evaluate(early, late),
            inside.evaluate(early),
            inside.evaluate(late),
        )

    ends, change, early, late = read()
    assert gap(*ends) < roundoff(10)
    assert gap(change, jax.tree.map(jnp.subtract, late, early)) < roundoff(10)


def count_decompositions(monkeypatch):
    """A list that grows by one with every eigendecomposition that is carried out."""
    carried_out = []
    eigh = jnp.linalg.eigh

    def note(matrix):
        carried_out.append(len(matrix))
        return np.asarray(matrix)

    def counted(matrix):
        shape = jax.ShapeDtypeStruct(matrix.shape, matrix.dtype)
        return eigh(jax.pure_callback(note, shape, matrix, vmap_method="sequential"))

    monkeypatch.setattr(_decomposition.jnp.linalg, "eigh", counted)
    return carried_out


def driven(term, y0, end, controller):
    """What `diffeqsolve` does, one attempt after the other: state, work, steps."""
    method = KernelExponential()
    end = jnp.asarray(end)

    @quick_jit
    def begin():
        t0 = jnp.zeros_like(end)
        t, memory = controller.init(
            term, t0, end, y0, None, None, method.func, method.error_order(term)
        )
        t = jnp.minimum(t, end)
        return t, memory, method.init(term, t0, t, y0, None)

    @quick_jit
    def go_on(t0, t1, y, memory, state):
        tried = method.attempt(term, t0, t1, y, None, state, made_jump=False)
        kept, t0, t1, _, memory, _ = controller.adapt_step_size(
            t0, t1, y, tried.y1, None, tried.y_error, 4, memory
        )
        y, state = jax.tree.map(
            lambda a, b: jnp.where(kept, a, b), (tried.y1, tried.state), (y, state)
        )
        return t0, jnp.minimum(t1, end), y, memory, state, tried.work

    (t1, memory, state), t0, y = begin(), jnp.zeros_like(end), y0
    works = []
    while t0 < end:
        t0, t1, y, memory, state, work = go_on(t0, t1, y, memory, state)
        works.append(work)
    return y, jax.tree.map(lambda *counts: int(sum(counts)), *works), len(works)


def test_work_counts_the_decompositions_carried_out(monkeypatch):
    carried_out = count_decompositions(monkeypatch)
    term = term_of(tiny(time_scale=3.0), [Gradient(), Linearized()])
    y0 = initial(term)
    controller = dfx.PIDController(rtol=1e-4, atol=1e-4, dtmax=1.0)
    y, work, attempts = driven(term, y0, 1.0, controller)
    jax.effects_barrier()
    # Two kernels at the start; then that of θ(t) alone.
    assert len(carried_out) == 2 + work.factorizations
    assert work.kernel_builds == work.factorizations > 0
    assert work.factorizations < attempts
    assert work.evaluations == 4 * attempts
    assert gap(y, last(reference(term, y0, [1.0]))) < 1e-3


def test_ensemble_decomposes_no_more_than_its_lanes(monkeypatch):
    carried_out = count_decompositions(monkeypatch)
    problem = tiny(time_scale=3.0)
    rng = np.random.default_rng(2)
    lanes = [
        jax.tree.map(lambda p: p + 0.5 * rng.standard_normal(p.shape), problem.params)
        for _ in range(3)
    ]
    ts = jnp.array([0.5, 1.5])

    def one(params):
        lane = term_of(problem.with_parts(params, problem.static), [Gradient()])
        found = adaptively(lane, initial(lane), ts, 1e-4)
        return found.ys, found.stats["num_steps"]

    alone, steps = zip(*map(quick_jit(one), lanes), strict=True)
    jax.effects_barrier()
    one_by_one = len(carried_out)
    carried_out.clear()
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *lanes)
    together, steps_together = quick_jit(jax.vmap(one))(stacked)
    jax.effects_barrier()
    assert len(carried_out) == one_by_one < sum(int(n) for n in steps)
    assert len(set(map(int, steps))) > 1
    assert steps_together.tolist() == [int(n) for n in steps]
    for i, ys in enumerate(alone):
        lane = {name: own[i] for name, own in together.items()}
        assert gap(lane, ys) < roundoff(10_000)


@pytest.mark.parametrize(
    ("flow", "expected"), [(Linearized(), 0), (Residual("frozen"), 0), (Gradient(), 1)]
)
def test_shortened_step_decomposes_what_has_changed(flow, expected, monkeypatch):
    carried_out = count_decompositions(monkeypatch)
    term = term_of(tiny(), [flow])
    y0 = initial(term)
    method = KernelExponential()

    @quick_jit
    def attempt(h, last):
        state = method.init(term, 0.0, h, y0, None)._replace(last=last)
        tried = method.attempt(term, 0.0, h, y0, None, state, made_jump=False)
        # Were nothing made of the states, the compiler would drop them.
        return tried.work, (state, tried.state)

    for h, count in ((0.1, expected), (0.96, 0), (0.0, 0)):
        carried_out.clear()
        work, _ = attempt(jnp.asarray(h), jnp.asarray(1.0))
        jax.effects_barrier()
        assert int(work.factorizations) == count
        assert len(carried_out) == 1 + count


def test_kernel_that_cannot_be_decomposed_is_reported(monkeypatch):
    term = term_of(tiny(), [Gradient()])
    y0 = initial(term)
    good = steps_of(term, y0, 0.01, 1).ys
    monkeypatch.setattr(
        _decomposition.jnp.linalg,
        "eigh",
        lambda a: (jnp.full(len(a), jnp.nan), jnp.full_like(a, jnp.nan)),
    )
    method = KernelExponential()
    state = method.init(term, 0.0, 0.01, y0, None)
    assert int(state.code) == Code.FACTORIZATION
    tried = method.attempt(term, 0.0, 0.01, y0, None, state, made_jump=False)
    assert tried.result == dfx.RESULTS.nonlinear_divergence
    assert int(tried.state.code) == Code.FACTORIZATION
    # Without A it is the classical Runge–Kutta method.
    assert gap(tried.y1, last(good)) < 1e-4


def test_flow_that_blows_up_is_no_failure_of_the_decomposition():
    term = term_of(tiny(), [Gradient()])
    y0 = {name: jnp.full_like(own, jnp.nan) for name, own in initial(term).items()}
    state = KernelExponential().init(term, 0.0, 0.1, y0, None)
    assert int(state.code) == Code.FINE


def test_what_cannot_be_integrated_is_refused():
    method = KernelExponential()
    term = term_of(tiny(), [Modified(Descent(0.01))])
    y0 = initial(term)
    with pytest.raises(ValueError, match=r"'modified' is driven otherwise.*Dopri8"):
        method.init(term, 0.0, 0.1, y0, None)
    term = term_of(tiny(), [Gradient()])
    small = KernelExponential(max_size=11)
    with pytest.raises(ValueError, match=r"N·K = 12 rows.*4,608 bytes.*Chebyshev"):
        steps_of(term, initial(term), 0.1, 1, method=small)
    steps_of(term, initial(term), 0.1, 1, method=KernelExponential(max_size=12))
