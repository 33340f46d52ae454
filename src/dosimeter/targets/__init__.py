"""What can be examined: torch modules, Hugging Face models, sentence encoders, HTTP services, recorded answers.

Does not own: budgets, caching and answer checks (``core.oracle``), reading files safely (``loading``), scoring.
Every module here loads its framework only when it is imported; ``spec`` needs none.
"""
