"""Text to phonemes and to synthetic speech: voices and sentences."""
