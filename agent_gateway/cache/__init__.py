"""Answers that are given again: to the same request, of the same key and user, for a while."""
