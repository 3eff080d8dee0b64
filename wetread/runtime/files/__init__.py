"""This disk: read, name, lock, move and replace local files."""
