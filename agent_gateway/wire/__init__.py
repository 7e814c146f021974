"""The public protocols as types, and SSE framing; no logic."""
