import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from ntkflow.theory import ensemble, nngp_posterior
from tests.tolerances import roundoff, standard_errors

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

N, NT, DRAWS = 5, 3, 40_000
RNG = np.random.default_rng(0)
TRAINED, FIXED = RNG.standard_normal((2, N + NT, 4)) / 2
Y = RNG.standard_normal((N, 2))
NTK = TRAINED @ TRAINED.T
NNGP = NTK + FIXED @ FIXED.T
PRIOR = {"nngp_test_train": NNGP[N:, :N], "nngp_test": NNGP[N:, N:]}
TIMES = np.array([0.0, 0.7, 5.0, np.inf])

predict = jax.jit(ensemble)


def at_times(ridge):
    return predict(
        NNGP[:N, :N],
        NTK[:N, :N],
        Y,
        TIMES,
        ntk_test_train=NTK[N:, :N],
        ridge=ridge,
        **PRIOR,
    )


def learned(t, ridge):
    """What the outputs on both sets take of y − f₀, in the space of the features."""
    phi = TRAINED[:N]
    hessian = phi.T @ phi + ridge * np.eye(4)
    if np.isinf(t):
        return TRAINED @ np.linalg.pinv(hessian) @ phi.T
    left = scipy.linalg.expm(-t * hessian)
    return TRAINED @ np.linalg.solve(hessian, (np.eye(4) - left) @ phi.T)


@pytest.mark.parametrize("ridge", [0.0, 0.4])
def test_moments_are_those_of_many_linear_models(ridge):
    """f = φθ + ψω with both drawn from the prior and θ trained; rank 4 of 5."""
    rng = np.random.default_rng(1)
    start = np.concatenate([TRAINED, FIXED], axis=1) @ rng.standard_normal((8, DRAWS))
    found = at_times(ridge)
    for i, t in enumerate(TIMES):
        outputs = start + learned(t, ridge) @ (Y[:, :1] - start[:N])
        for part, draws in zip(found, np.split(outputs, [N]), strict=True):
            std = np.std(draws, axis=1)
            error = np.abs(part.mean[i, :, 0] - np.mean(draws, axis=1))
            assert (error <= standard_errors(std, DRAWS) + roundoff(400)).all()
            spread = np.outer(std, std) * np.sqrt(2)
            error = np.abs(part.covariance[i] - np.cov(draws))
            assert (error <= standard_errors(spread, DRAWS) + roundoff(400)).all()


@pytest.mark.parametrize("ridge", [0.0, 0.4])
def test_moments_are_those_of_the_map_from_the_start(ridge):
    found = at_times(ridge)
    for i, t in enumerate(TIMES):
        take = learned(t, ridge)
        moves = np.eye(N + NT) - np.pad(take, [(0, 0), (0, NT)])
        covariance = moves @ NNGP @ moves.T
        for part, cut in zip(found, [slice(N), slice(N, None)], strict=True):
            mean, own = (take @ Y)[cut], covariance[cut, cut]
            np.testing.assert_allclose(part.mean[i], mean, atol=roundoff(400))
            np.testing.assert_allclose(part.covariance[i], own, atol=roundoff(400))


def test_an_ensemble_of_a_full_kernel_is_one_for_every_output():
    full = {
        name: np.einsum("ij,kl->ikjl", kernel, np.eye(2))
        for name, kernel in PRIOR.items()
    }
    kernels = (np.einsum("ij,kl->ikjl", k[:N, :N], np.eye(2)) for k in (NNGP, NTK))
    cross = np.einsum("ij,kl->ikjl", NTK[N:, :N], np.eye(2))
    found = ensemble(*kernels, Y, 0.7, ntk_test_train=cross, ridge=0.4, **full)
    for part, other in zip(found, at_times(0.4), strict=True):
        np.testing.assert_allclose(part.mean, other.mean[1], atol=roundoff(100))
        for k in range(2):
            own = part.covariance[:, k, :, k]
            np.testing.assert_allclose(own, other.covariance[1], atol=roundoff(100))
        between = part.covariance[:, 0, :, 1]
        np.testing.assert_allclose(between, 0, atol=roundoff(100))


def conditional(noise):
    """The normal distribution of both sets, given the observations."""
    observed = NNGP[:N, :N] + noise * np.eye(N)
    gain = NNGP[:, :N] @ np.linalg.pinv(observed, rcond=1e-12)
    return gain @ Y, NNGP - gain @ NNGP[:N]


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_posterior_is_the_conditional_distribution(noise):
    mean, covariance = conditional(noise)
    found = nngp_posterior(NNGP[:N, :N], Y, noise, **PRIOR)
    tolerance = roundoff(40) * np.linalg.cond(NNGP[:N, :N] + noise * np.eye(N))
    for part, cut in zip(found, [slice(N), slice(N, None)], strict=True):
        np.testing.assert_allclose(part.mean, mean[cut], atol=tolerance)
        np.testing.assert_allclose(
            part.covariance, covariance[cut, cut], atol=tolerance
        )


def test_training_the_readout_alone_ends_at_the_posterior_without_noise():
    """Where both kernels are the same (Lee et al. 2019, section 2.3.1)."""
    trained = ensemble(
        NNGP[:N, :N],
        NNGP[:N, :N],
        Y,
        np.inf,
        ntk_test_train=NNGP[N:, :N],
        **PRIOR,
    )
    posterior = nngp_posterior(NNGP[:N, :N], Y, 0.0, **PRIOR)
    tolerance = roundoff(40) * np.linalg.cond(NNGP[:N, :N])
    for part, other in zip(
        jax.tree.leaves(trained), jax.tree.leaves(posterior), strict=True
    ):
        np.testing.assert_allclose(part, other, atol=tolerance)


def test_moments_are_those_of_the_mean_and_keep_float32():
    single = [jnp.asarray(a, jnp.float32) for a in (NNGP[:N, :N], NTK[:N, :N], Y)]
    found = ensemble(*single, 0.7)
    assert found.test is None
    assert found.train.mean.dtype == found.train.covariance.dtype == jnp.float32
    tolerance = roundoff(40, np.float32)
    expected = at_times(0.0).train
    np.testing.assert_allclose(found.train.mean, expected.mean[1], atol=tolerance)
    own = found.train.covariance
    np.testing.assert_allclose(own, expected.covariance[1], atol=tolerance)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nngp_train": np.eye(4)}, r"`nngp_train` must have shape \[5, 5\]"),
        ({"nngp_test": np.eye(3)}, "needs both `nngp_test_train` and `nngp_test`"),
        ({"ntk_test_train": np.ones((3, 5))}, "needs all of"),
        (PRIOR, "needs all of"),
        (
            PRIOR | {"ntk_test_train": np.ones((2, 5))},
            r"`ntk_test_train` must have shape \[3, 5\]",
        ),
        ({"ridge": -1.0}, "`ridge` must be finite and not negative"),
    ],
)
def test_bad_kernels_are_one_clear_error(change, message):
    good = {"nngp_train": NNGP[:N, :N], "ntk_train": NTK[:N, :N], "y_train": Y}
    with pytest.raises(ValueError, match=message):
        ensemble(**(good | {"t": 1.0} | change))
