"""How to shrink a model: the traced graph, runtimes, and one strategy per file. Imports torch; never Ray, never ``search``."""
