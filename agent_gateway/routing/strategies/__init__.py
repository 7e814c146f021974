"""The strategies: each file is one plug-in of the seat `routing.base.STRATEGIES`."""
