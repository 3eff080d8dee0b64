"""Score new files of a folder as they arrive."""
