"""Train a small Keras network from labelled folders. Needs the extra `train`.

The package is also the function `wetread.train(data, output=...)`: see `wetread.train.interface`.
"""

from wetread.keyword_functions import make_callable

make_callable(__name__)
