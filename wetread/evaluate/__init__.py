"""Evaluate probabilities: metrics, thresholds, report. Needs no extra, and never TensorFlow.

The package is also the function `wetread.evaluate(data, model=...)`: see `wetread.evaluate.interface`.
"""

from wetread.calling import make_callable

make_callable(__name__)
