"""Anthropic Messages, both sides."""
