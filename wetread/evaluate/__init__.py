"""Evaluate probabilities: metrics, thresholds, report. Needs no extra, and never TensorFlow."""
