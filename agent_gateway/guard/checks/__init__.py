"""One file a check; loaded only where a configuration names it."""
