"""What a simulation returns, and how it is kept on disk."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pandas as pd
import xarray as xr
import zarr

from .._types import Params
from ..models import named_leaves
from ..storage import check_arrays, find_directory, write_directory
from ._checkpoint import Checkpoint
from ._dense import DenseOutput
from ._faults import telling_faults
from ._frame import digest_of, frame
from ._lanes import take
from ._one_member import dataset_of, params_of
from ._reason import Reason
from ._shown import to_frame, to_html

_FORMAT = 2
"""zarr's older format: the newer one has no settled form for text coordinates."""

_MANY = 4
"""Measures that a line names."""


@dataclass(frozen=True)
class Trajectory:
    """A simulated training run.

    Attributes:
        dataset: Everything read off it, with named dimensions, units and settings.
        reason: Why integration ended, in ntkflow's words.
        stats: Work done: steps, rejected, evaluations, gradients, hvps, jacobians,
            kernel_builds, factorizations, solver; `seconds` of integrating,
            `seconds_compiling`, and `seconds_total`, which has reading in it, too.
            `t_reached`: training time up to which the results of every flow hold; the
            last save time, if none ended before. `failure`: which flows failed, why,
            and what to do. And `error_growth`: how many-fold the gradient flow has
            made errors of the outputs grow, by `error_growth_at`.
            `error_over_tolerance`, with its time, is the largest estimated error of
            the outputs, None where none is known; `rtol_used` what it took;
            `error_gradients` and `error_seconds` are what the estimate and repeated
            runs have cost.
            Of an ensemble `member_reasons`, `stopped_by` and `stopped_at` have an entry
            for each member.
        params: The measured flow's trained leaves at the save times, by name. A member
            of an ensemble that a stop condition has ended is held as it was there, up
            to the last save time.
    """

    dataset: xr.Dataset
    reason: Reason
    stats: Mapping[str, Any]
    params: Mapping[str, np.ndarray]
    _model: Any = field(default=None, repr=False)
    _dense: DenseOutput | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        flows, times = self.dataset["flow"].values, self.dataset["time"].values
        saved = f"{len(times)} save times"
        if len(times) > 0:
            saved += f" from t = {times[0]:.3g} to {times[-1]:.3g}"
        measures = self.dataset.attrs.get("measures") or "none"
        if len(named := measures.split(", ")) > _MANY:
            measures = f"{', '.join(named[:_MANY])}, … ({len(named)})"
        return (
            f"<Trajectory: flows {', '.join(flows)}; {saved}; measures {measures}; "
            f"{self.reason.name.lower()}>"
        )

    def _repr_html_(self) -> str:
        return to_html(self.dataset, self.reason.name.lower())

    def to_dataframe(self) -> pd.DataFrame:
        """The numbers of the run as a table of pandas, for plots and statistics.

        Returns:
            One row for each flow and save time (of an ensemble, for each seed as well):
            `flow`, `time`, losses and accuracies, and the measures that are one number
            at a time. These were read off one flow, and are NaN in the others' rows.

        Verified by:
            tests/simulate/test_shown.py::test_a_table_has_the_numbers_of_the_dataset
        """
        return to_frame(self.dataset)

    @property
    def result(self) -> dfx.RESULTS:
        """The nearest member of diffrax's own enumeration."""
        return {
            Reason.EVENT: dfx.RESULTS.event_occurred,
            Reason.MAX_STEPS: dfx.RESULTS.max_steps_reached,
            Reason.DIVERGED: dfx.RESULTS.nonlinear_divergence,
            Reason.STEP_UNDERFLOW: dfx.RESULTS.dt_min_reached,
        }.get(self.reason, dfx.RESULTS.successful)

    @property
    def model(self) -> Any:
        """The trained model at the last save time, or where an event stopped the run.

        Of an event `dataset.time` has the stop as its last time, with `stopped` true.
        Members of an ensemble are each at their own end; `dataset.stop_time` tells it.
        """
        return self.model_at(-1)

    def member(self, i: int) -> "Trajectory":
        """One member of an ensemble, as if it had been simulated alone.

        Its stop, if there is one, is its last time, with the coordinate `stopped` true.

        Args:
            i: Index of the member; negative ones count from the end.

        Returns:
            The run. Its `stats` are those of the ensemble but for the reason and the
            stop, and it has no dense output.

        Raises:
            ValueError: If the run is no ensemble, or has no such member.

        Verified by:
            tests/simulate/test_stops.py::test_members_end_where_single_runs_do
        """
        count = self.dataset.sizes.get("seed", 0)
        if not -count <= i < count:
            raise ValueError(
                f"member({i}) needs an ensemble with more members: this run has "
                f"{count or 'none'}."
            )
        i %= count
        dataset = dataset_of(self.dataset, i)
        attrs, model = dataset.attrs, self._model
        if model is not None:
            model = take(model, i)
            dataset = dataset.assign_attrs(model_digest=digest_of(*model))
        told = {name: attrs.get(name) for name in ("stopped_at", "t_reached")}
        stats = {**self.stats, **told, "stopped_by": attrs.get("stopped_by", "")}
        stats.pop("member_reasons", None)
        reason = Reason[attrs["reason"].upper()]
        params = params_of(self.params, self.dataset, i)
        return Trajectory(dataset, reason, stats, params, model)

    def model_at(self, i: int) -> Any:
        """The trained model at the i-th save time.

        Args:
            i: Index into `dataset.time`; negative ones count from the end.

        Returns:
            An equinox module; of an ensemble, one with a leading axis on its arrays.

        Raises:
            ValueError: If the run has no parameter flow, or was loaded without a model.
        """
        if not self.params:
            flow = self.dataset.attrs.get("measured_on", "none")
            if flow != "none" and self.dataset.sizes["time"] == 0:
                raise ValueError(
                    f"{flow} ended before the first save time "
                    f"({self.reason.name.lower()}), so that no state of it was kept: "
                    "save at an earlier time too."
                )
            if flow != "none":
                raise ValueError(
                    f"States of {flow} are kept as far as all members of the ensemble "
                    "have come, and one of them failed before this one ended: simulate "
                    "the member alone."
                )
            raise ValueError(
                "This run integrated no flow of the network's parameters: add "
                "nf.flows.Gradient() to flows to get trained models."
            )
        if self._model is None:
            raise ValueError(
                "Arrays alone were stored, not the model's code: load the run with "
                "Trajectory.load(path, like=model), a model of the same structure."
            )
        axis = 1 if "seed" in self.dataset.dims else 0
        params, static = self._model
        leaves = [
            jnp.asarray(np.take(self.params[name], i, axis))
            for name, _ in named_leaves(params)
        ]
        restored = jtu.tree_unflatten(jtu.tree_structure(params), leaves)
        return eqx.combine(restored, static)

    def evaluate(self, t: float | int) -> dict[str, Any]:
        """Outputs of every flow at any time of the run, from its dense output.

        Args:
            t: Training time within the run.

        Returns:
            Training and test outputs by flow name.

        Raises:
            ValueError: If the run kept no dense output, or `t` is outside it.
        """
        if self._dense is None:
            raise ValueError("No dense output was kept: simulate with dense=True.")
        return self._dense.evaluate(t)

    def save(self, path: str | Path) -> None:
        """Writes the run as one zarr group, complete or not at all.

        Args:
            path: A directory; replaced if it is there.
        """

        def write(folder: Path) -> None:
            _as_fixed_text(self.dataset).to_zarr(
                folder, mode="w", zarr_format=_FORMAT, consolidated=False
            )
            root = zarr.open_group(folder, mode="a", zarr_format=_FORMAT)
            root.attrs["ntkflow_run"] = {
                "reason": int(self.reason),
                "stats": dict(self.stats),
                "leaves": list(self.params),
            }
            group = root.create_group("params")
            for i, array in enumerate(self.params.values()):
                group.create_array(f"leaf{i}", data=array)

        write_directory(path, write)

    @classmethod
    def load(cls, path: str | Path, *, like: Any = None) -> "Trajectory":
        """Reads a saved run, or whatever an unfinished one has saved so far.

        Args:
            path: What `save` wrote, or the checkpoint directory of `simulate`.
            like: The model that was trained (an ensemble: a stacked one), if models are
                wanted; the stored leaves replace its own, whatever numbers these hold.

        Returns:
            The run.

        Raises:
            ValueError: If there is no run, a part of it cannot be read or is more than
                numbers and text, or `like` is not the model that it trained.

        Verified by: tests/simulate/test_crafted.py::test_a_crafted_run_is_refused,
            tests/simulate/test_crafted.py::test_a_crafted_checkpoint_is_refused
        """
        path = find_directory(path)
        checkpoint = Checkpoint(path)
        if checkpoint.exists():
            with telling_faults(path):
                dataset, reason, stats, params = checkpoint.load()
                ended = final_attrs(reason, stats) if stats else {"reason": "running"}
            dataset = dataset.assign_attrs(ended)
            return cls(dataset, reason, stats, params, _framed(like, dataset, params))
        if not _is_saved(path):
            inside = [entry for entry in sorted(path.glob("*")) if _is_run(entry)]
            hint = f" It holds a run in {inside[-1]}: load that." if inside else ""
            raise ValueError(
                f"{path.absolute()} holds no run: expected what Trajectory.save wrote, "
                f"or the checkpoint directory of a simulation.{hint}"
            )
        with telling_faults(path):
            dataset, run, params = _read_group(path)
            reason, stats = Reason(run["reason"]), dict(run["stats"])
        return cls(dataset, reason, stats, params, _framed(like, dataset, params))


def _framed(
    like: Any, dataset: xr.Dataset, params: Mapping[str, np.ndarray]
) -> tuple[Params, Any] | None:
    if like is None or not params:
        return None
    return frame(like, params, dataset.attrs, stacked="seed" in dataset.dims)


def _as_fixed_text(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset without text as objects, which are never read."""
    objects = {n: v for n, v in dataset.variables.items() if v.dtype.kind == "O"}
    texts = {
        name: variable.astype(str)
        for name, variable in objects.items()
        if all(isinstance(value, str) for value in variable.values.flat)
    }
    return dataset.assign(texts)


def _is_saved(path: Path) -> bool:
    return (path / ".zgroup").exists()


def _is_run(path: Path) -> bool:
    return _is_saved(path) or Checkpoint(path).exists()


def _read_group(
    path: Path,
) -> tuple[xr.Dataset, dict[str, Any], dict[str, np.ndarray]]:
    """Dataset, run and parameters of a zarr group."""
    # Before zarr sees it: metadata name the code that decodes an array.
    check_arrays(path)
    # Collected, not raised where they occur: that is within tasks of zarr's own, which
    # would be left pending.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with xr.open_zarr(
            path, consolidated=False, zarr_format=_FORMAT, chunks=None
        ) as stored:
            dataset = stored.load()
        run = dataset.attrs.pop("ntkflow_run")
        group = zarr.open_group(path / "params", mode="r", zarr_format=_FORMAT)
        params = {
            name: np.asarray(group[f"leaf{i}"]) for i, name in enumerate(run["leaves"])
        }
    _check_left_out(path, [str(warning.message) for warning in caught])
    return dataset, run, params


def _check_left_out(path: Path, said: list[str]) -> None:
    """Raises if zarr left out what may be a damaged array, of which it only warns."""
    # Arrays are folders: a file beside them, such as a picture, is someone else's.
    for folder in (entry.name for entry in path.iterdir() if entry.is_dir()):
        if any(text.startswith(f"Object at {folder} is not") for text in said):
            raise ValueError(f"{path / folder} is no array")


def final_attrs(reason: Reason, stats: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a dataset that only the end of a run knows.

    Args:
        reason: Why it ended.
        stats: Its statistics.

    Returns:
        JSON-able attributes.
    """
    attrs = {"reason": reason.name.lower(), "t_reached": stats["t_reached"]}
    if "member_reasons" in stats:
        attrs["member_reasons"] = stats["member_reasons"]
    elif stats["stopped_by"]:
        attrs |= {key: stats[key] for key in ("stopped_by", "stopped_at")}
    if stats.get("failure"):
        attrs["failure"] = stats["failure"]
    told = ("seconds", "seconds_compiling", "seconds_total", "steps", "solver")
    told += ("error_growth", "error_growth_at", "rtol_used")
    if stats["error_over_tolerance"] is not None:
        told += ("error_over_tolerance", "error_over_tolerance_at")
    return attrs | {key: stats[key] for key in told}
