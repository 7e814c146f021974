"""Several processes that serve one port as one gateway: who starts them, and what they tell each other."""
