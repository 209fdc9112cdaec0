"""What a run says, in sentences; every number can be recomputed from the dataset.

A sentence whose numbers are missing is left out. Of an ensemble every number is the
median over seeds of that number.
"""

import xarray as xr

from ._answers_alignment import kernel_in_words
from ._answers_kernel import say_directions, say_motion
from ._answers_picture import (
    gap_in_short,
    largest_gap,
    last_gap_to_remaining,
    say_picture,
    say_trust,
)
from ._answers_training import say_training
from ._numbers import last, middle, peak
from ._read import Run, dataset_of, has, preferred, read
from ._words import known, percent, share

_LAZY = 0.1
"""A rule of thumb: below it a relative change counts as small."""


def answers(run: Run) -> list[str]:
    """What the run says about the motion of the kernel, in sentences.

    Args:
        run: A run or its dataset.

    Returns:
        Sentences, in the order of the questions: what was simulated; how far the kernel
        moved, and when; in which directions; how wrong the constant-kernel picture was;
        how far the numbers can be trusted.

    Verified by:
        tests/plots/test_answers.py::test_numbers_in_the_answers_are_those_of_the_dataset
    """
    dataset = dataset_of(run)
    return [s for said in answers_by_question(dataset).values() for s in said]


def answers_by_question(dataset: xr.Dataset) -> dict[str, list[str]]:
    """The answers under the question each belongs to.

    Args:
        dataset: The dataset.

    Returns:
        Sentences by question; questions without an answer are left out.
    """
    found = {"What was simulated?": say_training(dataset)}
    if dataset.sizes.get("time", 0) > 0:
        found |= {
            "How far did the kernel move, and when?": say_motion(dataset),
            "In which directions?": say_directions(dataset),
            "How wrong was the constant-kernel picture?": say_picture(dataset)
            + _say_regime(dataset),
            "How far can the numbers be trusted?": say_trust(dataset),
        }
    return {question: said for question, said in found.items() if said}


def headline(dataset: xr.Dataset) -> str:
    """The two numbers a run is made for, in one sentence.

    Args:
        dataset: The dataset.

    Returns:
        The sentence; empty if neither number is known.
    """
    drift, gap = _last_drift(dataset), gap_in_short(dataset)
    parts = []
    if known(drift):
        kernel = kernel_in_words(preferred(dataset, "kernel_drift"))
        parts.append(f"the {kernel} moved by {share(drift)} its initial size")
    if gap:
        parts.append(f"holding it constant {gap}")
    text = "; ".join(parts)
    return text[:1].upper() + text[1:]


def _last_drift(dataset: xr.Dataset) -> float:
    name = preferred(dataset, "kernel_drift")
    if not has(dataset, name):
        return float("nan")
    return middle(last(read(dataset, name)))


def _say_regime(dataset: xr.Dataset) -> list[str]:
    # What is held constant is the kernel over all outputs.
    full = has(dataset, "kernel_drift")
    name = "kernel_drift" if full else preferred(dataset, "kernel_drift")
    if not has(dataset, name):
        return []
    drift = middle(peak(read(dataset, name)))
    gaps = {split: largest_gap(dataset, split) for split in ("train", "test")}
    if not known(drift, gaps["train"]):
        return []
    # Not "at least": a gap that is unknown is no gap worth a word.
    wrong = [name for name, gap in gaps.items() if gap >= _LAZY]
    fine = [name for name, gap in gaps.items() if gap < _LAZY]
    rule = f"By the rule of thumb that calls changes under {percent(_LAZY)} small"
    if drift < _LAZY and not wrong:
        verdict = "this is lazy training: the constant kernel describes it"
    elif not wrong:
        verdict = f"the kernel moved, but that mattered little for {_outputs(fine)}"
    elif drift < _LAZY:
        verdict = f"the kernel hardly moved, yet that mattered for {_outputs(wrong)}"
    else:
        verdict = "this is not lazy training: the kernel moved, and it mattered for "
        verdict += _outputs(wrong)
        verdict += f", if little for {_outputs(fine)}" if fine else ""
    if last_gap_to_remaining(dataset) >= _LAZY and "train" in fine:
        verdict += "; it also mattered for what the network had yet to learn at the end"
    return [f"{rule}, {verdict}."]


def _outputs(splits: list[str]) -> str:
    words = {"train": "training", "test": "test"}
    return f"the {' and '.join(words[split] for split in splits)} outputs"
