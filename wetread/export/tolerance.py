"""How far a float32 file's probabilities may be from Keras', for `export` and `parity` alike.

Both add the same products in another order, and each layer's rounding is the next one's input, so deep
networks differ more. A probability is between 0 and 1 whatever the network, so one absolute limit has one
meaning. Eight applications of Keras (random weights, BatchNorm settled; AMD EPYC, AVX-512 with VNNI) were
off by 7e-7 (Xception) to 4.2e-5 (InceptionV3), and a layer that is converted wrongly is off by hundredths:
the limit is between the two.
"""

from __future__ import annotations

TOLERANCE = 1e-4
