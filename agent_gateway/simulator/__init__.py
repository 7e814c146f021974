"""The simulated model: what it says and when, in every protocol; served in process or over HTTP."""
