"""Teachers behind HTTP: the client and the protocols that it speaks."""
