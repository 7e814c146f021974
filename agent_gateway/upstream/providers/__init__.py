"""The providers: each file is one plug-in of the seat `upstream.base.PROVIDERS`."""
