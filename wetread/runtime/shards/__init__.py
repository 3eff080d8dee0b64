"""Score parts of a manifest on many machines, and merge their rows."""
