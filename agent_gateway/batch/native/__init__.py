"""Providers' own batches: requests that may wait go there at a lower price, and come back as results like any other."""
