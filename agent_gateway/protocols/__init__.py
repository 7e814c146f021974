"""One codec a protocol: requests and streams, read and written."""
