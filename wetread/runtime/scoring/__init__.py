"""Score a source: batches, workers, rows, and outputs that can be resumed."""
