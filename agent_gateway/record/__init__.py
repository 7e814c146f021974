"""What became of every request: its cost, its figures and its record. Nothing here is ever waited for."""
