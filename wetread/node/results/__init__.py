"""What a score becomes in an archive: a structured report, and a picture of what the model looked at."""
