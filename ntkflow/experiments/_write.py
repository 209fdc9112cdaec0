"""A description in the record of its run: as TOML, and in a sentence."""

from typing import Any

import tomli_w

from ._description import Experiment


def to_toml(experiment: Experiment) -> str:
    """The description as a TOML file that reads back to the same experiment.

    Args:
        experiment: The description.

    Returns:
        The file's text; entries that are left out by default stay out.
    """
    return tomli_w.dumps(experiment.model_dump(mode="json", exclude_none=True))


def description_attrs(experiment: Experiment) -> dict[str, Any]:
    """What the record of a run keeps of its experiment.

    Args:
        experiment: The description.

    Returns:
        Attributes of the dataset: `title`; `trained_on`, a sentence; and `description`,
        the whole description as TOML.
    """
    return {
        "title": experiment.title,
        "trained_on": summarize(experiment),
        "description": to_toml(experiment),
    }


def summarize(experiment: Experiment) -> str:
    """What was trained on what.

    Args:
        experiment: The description.

    Returns:
        Two sentences with the names that the description gives.

    Verified by: tests/experiments/test_record.py::test_a_sentence_tells_what_is_trained
    """
    return f"Trained: {_model(experiment)}. On: {_data(experiment)}."


def _model(experiment: Experiment) -> str:
    model, training = experiment.model, experiment.training
    parts = [f"{model.name} of width {model.width} and depth {model.depth}"]
    if model.name != "deep_linear":
        parts.append(model.activation)
    parts += [f"parameterization {model.parameterization}", f"seed {model.seed}"]
    if model.antisymmetric:
        parts.append("antisymmetric")
    if model.alpha != 1:
        parts.append(f"α = {model.alpha:g}")
    parts.append(f"loss {training.loss} ({training.reduction})")
    if training.decay > 0:
        parts.append(f"decay {training.decay:g} towards {training.decay_towards}")
    return ", ".join([*parts, experiment.precision])


def _data(experiment: Experiment) -> str:
    data = experiment.data
    parts = [data.name if data.path is None else data.path]
    if data.classes is not None:
        parts.append(f"classes {', '.join(map(str, data.classes))}")
    parts.append(f"{data.n_train} training and {data.n_test} test examples")
    if data.name == "linear_teacher":
        strengths = ", ".join(f"{strength:g}" for strength in data.strengths)
        parts.append(f"strengths {strengths}")
    else:
        parts.append(f"targets {data.targets}")
    return ", ".join([*parts, f"seed {data.seed}"])
