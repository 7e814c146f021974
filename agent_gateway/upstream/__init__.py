"""From planned candidates to an answer: the attempt loop, our HTTP/1.1 client and the provider plug-ins."""
