"""HTTP in and out. Two edges, one behaviour: the ASGI app serves everything, the fast lane the plain case of it."""
