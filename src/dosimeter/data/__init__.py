"""Data sets by name or path, with digest, groups and licence, and splits that respect the groups.

Does not own: parsing files that others made (``loading``), what a batch is (``core.records``).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"dataset": ["Dataset"], "sources": ["known_names", "load"]}
)
