"""The pages of the documentation that are made from the program itself: `python -m reference` writes them, tests hold them current."""
