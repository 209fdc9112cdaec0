"""Empirical neural tangent kernels of any equinox module, exactly.

`ntk` is the kernel, `plan` what it costs and why, `NTKOperator` its action on a vector
without forming it, `ntk_velocity` its rate of change along the gradient flow;
`eigenvalues` and `top_eigenpairs` read its spectrum, `spectral_density`,
`estimate_trace` and `estimate_effective_rank` that of a kernel too large for them;
`solve` inverts such a kernel; `ntk_error_estimate` is the error of one whose model
solves an equation; `stream` computes a kernel larger than memory into a
directory. `default_max_bytes` is the bound on working memory that holds unless another
is given.
"""

from ntkflow.kernels._error_estimate import (
    ErrorEstimate as ErrorEstimate,
    ntk_error_estimate as ntk_error_estimate,
)
from ntkflow.kernels._memory import default_max_bytes as default_max_bytes
from ntkflow.kernels._modes import (
    Modes as Modes,
    Obstacles as Obstacles,
    modes_of as modes_of,
    obstacles_of as obstacles_of,
)
from ntkflow.kernels._ntk import ntk as ntk
from ntkflow.kernels._of_problem import kernel_of as kernel_of
from ntkflow.kernels._operator import NTKOperator as NTKOperator
from ntkflow.kernels._plan import Plan as Plan, plan as plan
from ntkflow.kernels._solve import solve as solve
from ntkflow.kernels._spectrum import (
    eigenvalues as eigenvalues,
    top_eigenpairs as top_eigenpairs,
)
from ntkflow.kernels._stochastic import (
    Estimate as Estimate,
    SpectralDensity as SpectralDensity,
    estimate_effective_rank as estimate_effective_rank,
    estimate_trace as estimate_trace,
    spectral_density as spectral_density,
)
from ntkflow.kernels._stream import StoredKernel as StoredKernel, stream as stream
from ntkflow.kernels._velocity import ntk_velocity as ntk_velocity
