"""Evaluate probabilities: metrics, thresholds, report. Needs no extra, and never TensorFlow.

The package is also the function `wetread.evaluate(data, model=...)`: see `wetread.evaluate.interface`.
"""

from wetread.keyword_functions import make_callable

make_callable(__name__)
