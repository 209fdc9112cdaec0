import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf
from ntkflow.theory import features_of, frozen_flow
from tests.tolerances import roundoff, solver


@pytest.fixture
def kernel(key):
    factor = jax.random.normal(key, (6, 4))
    return factor @ factor.T


def test_linear_model_of_features_has_the_kernel(kernel, key):
    features = features_of(kernel)
    assert features.shape == (6, 4)
    model = nf.models.Dense(4, 1, "standard", use_bias=False, key=key)
    np.testing.assert_allclose(nf.ntk(model, features), kernel, atol=roundoff(50))


def test_flow_along_features_is_the_frozen_flow(kernel, key):
    """Six examples of rank four, the last two of them for testing."""
    features, y = features_of(kernel), jnp.sin(jnp.arange(4.0))[:, None]
    model = nf.models.Dense(4, 1, "standard", use_bias=False, key=key)
    model = jax.tree.map(jnp.zeros_like, model)
    run = nf.simulate(
        nf.Problem(model, features[:4], y, x_test=features[4:], y_test=y[:2]),
        [0.5],
        flows=[nf.flows.Gradient()],
        measures=(),
        rtol=1e-6,
        progress=False,
    )
    expected = frozen_flow(
        kernel[:4, :4], 0 * y, y, 0.5, ntk_test_train=kernel[4:, :4], f0_test=0 * y[:2]
    )
    found = run.dataset.isel(time=-1, flow=0)
    np.testing.assert_allclose(found.f_train, expected[0], atol=solver(1e-6))
    np.testing.assert_allclose(found.f_test, expected[1], atol=solver(1e-6))


def test_kernel_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="an eigenvalue -1 beside 1"):
        features_of(jnp.asarray([[0.0, 1.0], [1.0, 0.0]]))
