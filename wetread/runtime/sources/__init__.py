"""List and read inputs: folders, globs, lists of names, manifests, buckets."""
