"""Hours of running audio with labels: made, read, described."""
