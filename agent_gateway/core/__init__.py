"""The vocabulary every room shares; imports nothing of the project."""
