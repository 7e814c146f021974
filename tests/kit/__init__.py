"""What journeys are told with: a provider under script, the gateway as a process, a client that sees every byte."""
