"""The same answer on machines that are not this one: `make test-machines`.

`golden/` holds a corpus of drawn files, and what reading and scoring them must give. `golden.py` compares a
machine with that, and needs nothing but the installed wheel; the other modules make machines and run it
there.
"""
