"""Small problems, and saved moments of them built without the rooms under test."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ntkflow.measures import AbstractMeasure, Snapshot
from ntkflow.models import MLP
from ntkflow.problem import Problem

N, K, IN = 5, 2, 3


def make_problem(
    model: Any = None, *, dtype: Any = np.float64, test: bool = True, **options: Any
) -> Problem:
    """A network of three inputs and two outputs on five random examples."""
    rng = np.random.default_rng(7)
    if model is None:
        model = MLP(IN, K, width=4, depth=1, key=jax.random.key(1), dtype=dtype)
    n_outputs = eqx.filter_eval_shape(model, jnp.zeros(IN, dtype)).shape[0]
    options.setdefault("y", rng.normal(size=(N, n_outputs)).astype(dtype))
    if test:
        options["x_test"] = rng.normal(size=(4, IN)).astype(dtype)
        options["y_test"] = options["y"][:4]
    return Problem(model, rng.normal(size=(N, IN)).astype(dtype), **options)


def move(problem: Problem, seed: int = 3, size: float = 0.3) -> Any:
    """θ₀ displaced at random."""
    leaves, tree = jax.tree.flatten(problem.params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    moved = [
        leaf + size * jax.random.normal(key, leaf.shape, leaf.dtype)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, moved)


@eqx.filter_jit
def dense_kernel(problem: Problem, params: Any) -> jax.Array:
    """J Jᵀ from the whole Jacobian."""
    jac = jax.jacrev(problem.outputs)(params, problem.x)
    shape = jax.eval_shape(problem.outputs, params, problem.x).shape
    flat = jnp.concatenate(
        [leaf.reshape(shape[0] * shape[1], -1) for leaf in jax.tree.leaves(jac)], axis=1
    )
    product = jnp.matmul(flat, flat.T, precision=jax.lax.Precision.HIGHEST)
    return product.reshape(*shape, *shape)


@eqx.filter_jit
def dense_velocity(problem: Problem, params: Any) -> jax.Array:
    """dK/dt along −c∇L, by forward differentiation of `dense_kernel`."""
    flow = jax.tree.map(lambda g: -problem.time_scale * g, problem.gradient(params))
    return jax.jvp(lambda p: dense_kernel(problem, p), (params,), (flow,))[1]


def random_kernel(n: int = N, k: int = K, seed: int = 0, rank: int = 30) -> np.ndarray:
    """A random positive semidefinite kernel in full layout."""
    features = np.random.default_rng(seed).normal(size=(n * k, rank))
    return (features @ features.T).reshape(n, k, n, k)


def trace_of(kernel: Any) -> Any:
    """The sum over outputs, as a loop over them."""
    return sum(kernel[:, k, :, k] for k in range(kernel.shape[1]))


@eqx.filter_jit
def _read_network(problem: Problem, params: Any) -> dict[str, Any]:
    x_test = problem.x_test
    return {
        "f_train": problem.outputs(params, problem.x),
        "f_test": None if x_test is None else problem.outputs(params, x_test),
        "energy": problem.objective(params),
    }


def snapshot(
    problem: Problem, params: Any = None, time: float = 0.0, **fields: Any
) -> Snapshot:
    """The moment at which the network has these parameters; fields replace defaults."""
    params = problem.params if params is None else params
    moment = {
        "time": time,
        "problem": problem,
        "params": params,
        "params0": problem.params,
        **_read_network(problem, params),
        **fields,
    }
    for name, at in (("kernel", params), ("kernel0", moment["params0"])):
        if name not in fields:
            moment[name] = dense_kernel(problem, at)
        if moment[name] is not None:
            moment.setdefault(f"{name}_trace", trace_of(moment[name]))
    if fields.get("velocity") is not None:
        moment.setdefault("velocity_trace", trace_of(fields["velocity"]))
    arrays = {
        name: jnp.asarray(value, problem.dtype)
        if isinstance(value, float | np.ndarray)
        else value
        for name, value in moment.items()
    }
    return Snapshot(**arrays)


def read(
    measure: AbstractMeasure, now: Snapshot, first: Snapshot | None = None
) -> dict[str, np.ndarray]:
    """A measure as `simulate` reads it: prepared at t = 0, both parts compiled."""
    prepared = eqx.filter_jit(measure.prepare)(now if first is None else first)
    read = eqx.filter_jit(measure)(now, prepared)
    return {name: np.asarray(value) for name, value in read.items()}
