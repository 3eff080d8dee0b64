"""Local files: read, name, lock, move and replace them."""
