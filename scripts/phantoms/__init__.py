"""Generators of drawings with known truth, apart from the program's own."""
