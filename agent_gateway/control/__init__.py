"""Configuration: from `gateway.yaml` and the environment to what a running gateway reads."""
