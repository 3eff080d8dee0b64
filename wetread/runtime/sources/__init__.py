"""Where inputs come from: folders, globs, lists of names, manifests, buckets."""
