"""What is a probability, and the error of an answer that is none."""

from __future__ import annotations

import numpy as np
import pytest

from wetread.errors import ImageError, Status
from wetread.runtime.model.answers import are_probabilities, check_answers

INFINITE, NONE = np.float32("inf"), np.float32("nan")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([0.0, 1.0], True),
        ([0.25, 0.75], True),
        ([1.0004, -1e-4], True),  # of a softmax in half precision
        ([NONE, NONE], False),
        ([0.5, NONE], False),
        ([INFINITE, 0.0], False),
        ([0.0, -INFINITE], False),
        ([2.5, -1.5], False),  # logits
    ],
)
def test_an_image_has_probabilities_or_an_error(answers, expected):
    both = np.array([[0.5, 0.5], answers], np.float32)
    assert are_probabilities(both).tolist() == [True, expected]
    if expected:
        check_answers(both)
        return
    with pytest.raises(ImageError, match="answered (nan|-?inf|2.5), which is no probability") as caught:
        check_answers(both)
    assert caught.value.status == Status.NO_ANSWER


def test_of_no_image_nothing_is_wrong():
    assert are_probabilities(np.empty((0, 0), np.float32)).all()
