"""The acceptance of an installation: the table of the guide, run step by step, and a protocol to file."""
