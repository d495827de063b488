"""Recording sets, hours of running audio with labels: made, read, described."""
