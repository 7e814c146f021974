"""Bulk work: files, batches, the engine that runs their items, and what makes them cheaper."""
