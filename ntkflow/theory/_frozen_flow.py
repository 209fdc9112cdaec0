"""Gradient flow of a network whose kernel does not move, at any time."""

from ._decays import Flow
from ._inputs import Given, as_times
from ._predict import Predictions, predict, read_task


def frozen_flow(
    ntk_train: Given,
    f0_train: Given,
    y_train: Given,
    t: float | int | Given,
    *,
    ntk_test_train: Given | None = None,
    f0_test: Given | None = None,
    ridge: float | int | Given = 0.0,
) -> Predictions:
    """Outputs at time t of gradient flow with a constant kernel.

    For the loss ½Σ|f − y|² + ½ridge·|θ − θ₀|² and the flow θ̇ = −∇L of a model that is
    linear in its parameters, as infinitely wide networks are. With H = Θ + ridge

        f(x, t) = f₀(x) − Θ(x, X) tφ₁(−Ht)(f₀(X) − y),

    of which no inverse is taken: a singular kernel is as good as any. What has no
    eigenvalue is not learned.

    Eigenvalues of H up to a floor are rounding: 4√n·eps times the largest one of Θ,
    with n the size of the matrix, or twice the most negative one if that is more. What
    such modes learn and move is multiplied by exp(−(floor·t)²), at every t: they count
    while none so slow could be learned, and at late times as little as at t = ∞. A
    prediction that depends on it, floor·t > 0.1, warns; float32 reaches that at
    λ_max·t ≈ 2·10⁵/√n, where float64 does at 10¹⁴/√n.

    A problem with a time scale c, θ̇ = −c∇L, is at time t where this is at c·t. All
    arguments are differentiated through, also at kernels with equal eigenvalues.

    Args:
        ntk_train: Θ(X, X), either [N, N], the same for every output, or [N, K, N, K]. A
            trace over outputs is K times the former.
        f0_train: Outputs [N, K] at t = 0.
        y_train: Targets [N, K].
        t: Training time, a number or an array [T]; infinity is a time.
        ntk_test_train: Θ(X_test, X), [Nt, N] or [Nt, K, N, K].
        f0_test: Outputs [Nt, K] at t = 0 on the test set.
        ridge: Strength of the weight decay towards θ₀, in the kernel's unit.

    Returns:
        Outputs [N, K] on the training set and [Nt, K] on the test set, the latter None
        without one; with times [T] they lead.

    Source: Jacot, Gabriel & Hongler (2018), section 5; Lee et al. (2019), eqs. 10-11.

    Verified by:
        tests/theory/test_frozen_flow.py::test_outputs_are_those_of_the_linear_model,
        tests/theory/test_rounding.py::test_rounding_off_the_sample_does_not_grow_with_time
    """
    task = read_task(ntk_train, f0_train, y_train, ntk_test_train, f0_test)
    return predict(task, Flow(as_times(t, task.kernel.dtype)), ridge)
