"""Over a family of random networks, no method loses digits that plain products keep.

The yardstick is `plain`, which shares nothing with the library: reverse mode for every
output of every example, and one product of the Jacobian with itself. In float64 it is
the truth; in the precision of the weights its distance from that truth is the round-off
nobody can be blamed for. A method may be twice as far off, and besides 16 units of
round-off for every block, which add up as independent errors do: as a square root.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings, strategies as st

import ntkflow as nf
from ntkflow.kernels import _factors

from ..compilation import QUICK
from ..tolerances import roundoff
from .networks import TRAITS, Block, Case, build, cases

FORMULAS = {"full": "akp,blp->akbl", "diagonal": "akp,bkp->abk", "trace": "akp,bkp->ab"}
# The costs of the forms of the structured method; prohibitive ones leave the last. The
# nested form is only offered for the full layout.
COSTS = {
    "factored": "factored_flops",
    "nested": "nested_flops",
    "assembled": "jacobian_flops",
}
BRANCHES = (
    Block("branch", (("inside", True),)),
    Block("dense", (("side", "left"), ("activation", "swish")), shared=True),
    Block("branch", (("inside", False),)),
)
FAMILY = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),  # to shrink is to compile for minutes
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
)


def plain(model: Any, x: jax.Array, outputs: str) -> np.ndarray:
    """J Jᵀ as anyone would write it down, accumulated in float32 at least."""
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def jacobian(p: Any, xi: jax.Array) -> list[jax.Array]:
        rows = jax.jacrev(lambda q: eqx.combine(q, static)(xi))(p)
        return [row.reshape(row.shape[0], -1) for row in jax.tree.leaves(rows)]

    # Most of the time is compilation. What is tested is compiled as users compile it.
    batched = jax.jit(jax.vmap(jacobian, (None, 0)), compiler_options=QUICK)
    blocks = batched(params, x)
    j = jnp.concatenate(blocks, axis=2)
    j = j.astype(jnp.float64 if j.dtype == jnp.float64 else jnp.float32)
    kernel = jnp.einsum(FORMULAS[outputs], j, j, precision="highest")
    return np.asarray(kernel, np.float64)


def computed(model: Any, x: jax.Array, case: Case) -> jax.Array:
    """The kernel by the case's method."""
    method = "auto" if case.way == "auto" else "structured"
    with pytest.MonkeyPatch.context() as patch:
        for form, cost in COSTS.items():
            if case.way in COSTS and form != case.way:
                patch.setattr(_factors, cost, lambda *_: 1e30)
        # A new function each time: a patched plan must not meet a cached compilation.
        kernel = nf.ntk(
            model, x, outputs=case.outputs, method=method, apply=lambda m, xi: m(xi)
        )
    assert isinstance(kernel, jax.Array)
    return kernel


def widened(tree: Any) -> Any:
    """The same numbers in float64."""
    return jax.tree.map(
        lambda a: a.astype(jnp.float64) if eqx.is_inexact_array(a) else a, tree
    )


def distance(kernel: Any, exact: np.ndarray) -> float:
    """Relative to the Frobenius norm."""
    difference = np.asarray(kernel, np.float64) - exact
    return float(np.linalg.norm(difference) / np.linalg.norm(exact))


def check_rounded(case: Case, dtype: Any) -> np.ndarray:
    """Compares a kernel in a precision below float64 with the truth, and returns it."""
    model, x = build(case, dtype)
    exact = plain(widened(model), widened(x), case.outputs)
    assert np.all(np.isfinite(exact))
    kernel = computed(model, x, case)
    assert kernel.dtype == jnp.float32
    slack = 16 * float(jnp.finfo(dtype).eps) * np.sqrt(len(case.blocks))
    bound = 2 * distance(plain(model, x, case.outputs), exact) + slack
    assert distance(kernel, exact) <= bound
    return exact


def check_both(case: Case) -> None:
    """Compares a case in float32 and in float64."""
    exact = check_rounded(case, jnp.float32)
    model, x = build(case, jnp.float32)
    wide = computed(widened(model), widened(x), case)
    assert wide.dtype == jnp.float64
    assert distance(wide, exact) <= 1e-13


@settings(FAMILY, max_examples=5)
@example(Case(BRANCHES, False, 3, "trace", "auto", 1))
@given(st.sampled_from(TRAITS).flatmap(cases))
def test_kernels_are_as_accurate_as_plain_products(case):
    check_both(case)


@settings(FAMILY, max_examples=3)
@given(st.sampled_from(TRAITS).flatmap(lambda trait: cases(trait, smooth=True)))
def test_kernels_of_half_precision_are_as_accurate_as_plain_products(case):
    check_rounded(case, jnp.bfloat16)


@pytest.mark.slow
@pytest.mark.parametrize("trait", TRAITS)
@settings(FAMILY, max_examples=2)
@given(data=st.data())
def test_kernels_with_every_trait_are_as_accurate_as_plain_products(trait, data):
    check_both(data.draw(cases(trait)))


@pytest.mark.parametrize("method", ["structured", "auto"])
def test_products_of_half_precision_are_summed_in_float32(method, key):
    """f = Wx: Θ = ⟨x,x'⟩I, and two bfloat16 have an exact product in float32.

    Summed in bfloat16, 4,096 terms would stop growing after some 256.
    """
    terms = 4096
    w = jax.random.normal(key, (2, terms), jnp.bfloat16)
    x = jax.random.uniform(key, (3, terms), jnp.bfloat16, 0.5, 1.5)
    kernel = nf.ntk({"w": w}, x, method=method, apply=lambda m, xi: m["w"] @ xi)
    assert isinstance(kernel, jax.Array)
    assert kernel.dtype == jnp.float32
    gram = np.asarray(x, np.float64) @ np.asarray(x, np.float64).T
    assert distance(kernel, 2 * gram) <= roundoff(terms, np.float32, factor=1.0)
