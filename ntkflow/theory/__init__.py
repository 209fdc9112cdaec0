"""Closed forms: what the flows do where they can be solved by hand.

With a kernel that stands still everything is linear: `frozen_flow` is gradient flow at
any time, `frozen_momentum` the heavy ball, `frozen_descent` discrete steps, each on
training and test examples; `ensemble` the mean and covariance over draws of an
infinitely wide network, `nngp_posterior` and `kernel_ridge` the regressions;
`early_stopping_ridge` the ridge that stopping amounts to. Those `_by_products` are for
kernels too large to decompose, and `features_of` makes of a kernel the linear model
that has it, for any other loss or flow.
"""

from ._descent import (
    descent_decay as descent_decay,
    descent_gap as descent_gap,
    descent_gap_of_modes as descent_gap_of_modes,
)
from ._early_stopping import (
    early_stopping_matrix as early_stopping_matrix,
    early_stopping_ridge as early_stopping_ridge,
)
from ._features import features_of as features_of
from ._frozen_flow import frozen_flow as frozen_flow
from ._frozen_momentum import (
    frozen_descent as frozen_descent,
    frozen_momentum as frozen_momentum,
)
from ._large import (
    frozen_flow_by_products as frozen_flow_by_products,
    kernel_ridge_by_products as kernel_ridge_by_products,
)
from ._learning_rate import max_learning_rate as max_learning_rate
from ._phi import phi as phi, phi_slopes as phi_slopes, phis as phis
from ._posterior import (
    Gaussian as Gaussian,
    ensemble as ensemble,
    nngp_posterior as nngp_posterior,
)
from ._predict import Predictions as Predictions
from ._ridge import kernel_ridge as kernel_ridge, ridge_filter as ridge_filter
