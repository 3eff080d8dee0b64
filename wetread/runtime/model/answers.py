"""Whether a model's answers are probabilities: a label must never be chosen from what is none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wetread.errors import ImageError, Status

# Beyond 0 and 1, for a softmax in half precision.
_TOLERANCE = np.float32(1e-3)


def are_probabilities(answers: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell for each image whether all of its answers, float32 (N, K), lie in 0 to 1. NaN does not.

    A graph may overflow on an unusual image, in half precision above all.
    """
    fits = (answers >= -_TOLERANCE) & (answers <= 1 + _TOLERANCE)
    return np.asarray(fits.all(axis=1))


def check_answers(answers: NDArray[np.float32]) -> None:
    """Refuse answers, float32 (N, K), that are no probabilities. Raises ImageError 'no_answer'."""
    fits = are_probabilities(answers)
    if not fits.all():
        raise lack_answer(answers[~fits][0])


def lack_answer(answers: NDArray[np.float32]) -> ImageError:
    """Make the error of an image whose answers (K,) are no probabilities: 'no_answer'."""
    wrong = answers[~are_probabilities(answers[:, None])][0]
    return ImageError(
        Status.NO_ANSWER,
        f"The model answered {float(wrong):.6g}, which is no probability. Does it compute rightly on this "
        "machine ('wetread verify')? If it does, it overflows on this image: export it in float32.",
    )
