"""Small networks that reproductions and examples train on the spot, loops that train them, and readers of pretrained ones.

Does not own: targets (``targets``), data (``data``), reading weight files (``loading``).
Import from the modules directly: ``networks`` (architectures), ``training`` (loops), ``zoo`` (pretrained encoders).
"""
