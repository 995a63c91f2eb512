"""The channel emulator: streams of samples over ZMQ."""
