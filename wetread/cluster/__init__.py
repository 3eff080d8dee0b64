"""Score the shards of a manifest on a Ray cluster. Ray is imported when a run begins."""
