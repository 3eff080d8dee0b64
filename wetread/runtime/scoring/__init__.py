"""From a source to rows: batches, workers, outputs that can be resumed."""
