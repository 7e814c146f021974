"""Conversation memory, its compaction, and what forgets it in time."""
