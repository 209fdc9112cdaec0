import numpy as np

from ntkflow.measures import KernelStep

from ..tolerances import roundoff
from .snapshots import K, N, make_problem, random_kernel, read, snapshot, trace_of


def test_steps_are_distances_between_successive_kernels():
    problem = make_problem()
    before, kernel = random_kernel(seed=0), random_kernel(seed=1)
    now = snapshot(
        problem,
        time=3.0,
        kernel=kernel,
        kernel_before=before,
        kernel_before_trace=trace_of(before),
        time_before=2.5,
    )
    for outputs, a, b in (
        ("full", before, kernel),
        ("trace", trace_of(before), trace_of(kernel)),
    ):
        expected = 1 - np.vdot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b))
        end = "" if outputs == "full" else "_trace"
        found = read(KernelStep(outputs), now)
        tolerance = roundoff((N * K) ** 2)
        distance = found[f"kernel_step_distance{end}"]
        np.testing.assert_allclose(distance, expected, atol=tolerance)
        velocity = found[f"kernel_step_velocity{end}"]
        np.testing.assert_allclose(velocity, expected / 0.5, atol=2 * tolerance)
