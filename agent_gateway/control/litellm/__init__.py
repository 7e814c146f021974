"""A LiteLLM proxy's configuration → `gateway.yaml`: nothing in it is left out without saying so."""
