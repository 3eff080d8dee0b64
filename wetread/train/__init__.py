"""Train a small Keras network from labelled folders. Needs the extra `train`."""
