"""Cloud Storage: list, read ahead and write objects, with retries. Needs the extra `gcs`."""
