"""Text to synthetic speech: voices and sentences."""
