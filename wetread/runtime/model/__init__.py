"""The model file: its spec, its checks, and the session that computes probabilities."""
