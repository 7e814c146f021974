"""What would happen, or would have happened: the real routing, limits, breakers and alerts under a virtual clock."""
