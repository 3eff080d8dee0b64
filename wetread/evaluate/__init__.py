"""Judge probabilities, wherever they come from. Needs no extra, and never TensorFlow."""
