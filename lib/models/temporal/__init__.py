"""What a network remembers from frame to frame."""
