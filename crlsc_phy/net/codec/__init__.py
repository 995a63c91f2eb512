"""The codec as a ZMQ service, and its client."""
