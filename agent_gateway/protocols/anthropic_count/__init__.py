"""Anthropic's counting of tokens: a request of Messages, and a number for an answer."""
