"""Knowledge bases over HTTP: a server, and clients that pull and publish."""
