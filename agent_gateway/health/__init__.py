"""What is known of each deployment. Outlives a reload: snapshots of the configuration refer to it, never own it."""
