"""
Your own module and your own loss
=================================

Any equinox module works: here one with an embedding by integer tokens, a weight that is
used twice, layer normalization and a frozen leaf, trained with a loss of our own and
with the heavy ball beside gradient flow.
"""

import jax

jax.config.update("jax_enable_x64", True)

import equinox as eqx
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import ntkflow as nf

# %%
# A module
# --------
# A model maps ONE example to a vector of outputs; ntkflow does the batching.


class WordCounter(eqx.Module):
    """Counts tokens of two kinds in a sentence of eight tokens."""

    embedding: nf.models.Frozen
    mix: eqx.nn.Linear
    norm: eqx.nn.LayerNorm
    readout: eqx.nn.Linear

    def __init__(self, width, key):
        e, m, r = jax.random.split(key, 3)
        self.embedding = nf.models.Frozen(eqx.nn.Embedding(6, width, key=e))
        self.mix = eqx.nn.Linear(width, width, key=m)
        self.norm = eqx.nn.LayerNorm(width)
        self.readout = eqx.nn.Linear(width, 2, key=r)

    def __call__(self, tokens):
        """Two numbers for one sentence."""
        h = jax.vmap(self.embedding)(tokens)
        for _ in range(2):  # the same weight, twice
            h = h + jnp.tanh(jax.vmap(self.mix)(h))
        return self.readout(self.norm(h.mean(0)))


# %%
# A loss
# ------
# A loss takes the outputs and the target of one example. This one is quadratic for
# small residuals and linear for large ones.


def pseudo_huber(f, y):
    """sqrt(1 + r²) − 1, summed over the outputs."""
    return jnp.sum(jnp.sqrt(1 + (f - y) ** 2) - 1)


key = jax.random.key(0)
tokens = jax.random.randint(key, (40, 8), 0, 6)
counts = jnp.stack([(tokens == 0).sum(1), (tokens == 1).sum(1)], axis=1) / 2.0
problem = nf.Problem(
    WordCounter(32, key),
    tokens[:30],
    counts[:30],
    x_test=tokens[30:],
    y_test=counts[30:],
    loss=pseudo_huber,
)
print(f"{problem.n_params} trained parameters; the embedding is frozen")

# %%
# Simulate
# --------
# The residual equation holds for any loss, with ∇_f ℓ in place of the residual.

run = nf.simulate(
    problem,
    nf.log_times(1e-2, 10.0, 30),
    flows=[
        nf.flows.Gradient(),
        nf.flows.Residual("evolving"),
        nf.flows.Residual("frozen"),
        nf.flows.Momentum(damping=2.0),
    ],
    measures=[nf.measures.KernelDrift(), nf.measures.EnergyDefect()],
    progress=False,
)
axes = nf.plots.loss(run)
plt.show()

# %%
# Checks
# ------

f = run.dataset.f_train
gap = np.abs(f.sel(flow="residual_evolving") - f.sel(flow="gradient")).max()
assert gap < 1e-2 * np.abs(f).max()
trained = jax.vmap(run.model)(problem.x)
assert np.allclose(trained, f.sel(flow="gradient").isel(time=-1))
before, after = problem.model.embedding.tree.weight, run.model.embedding.tree.weight
assert (before == after).all()
assert (
    run.dataset.loss_train.sel(flow="gradient")[-1] < run.dataset.loss_train[0, 0] / 4
)
