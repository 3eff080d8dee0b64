"""Judge probabilities, wherever they come from. Needs the extra `report`, never TensorFlow."""
