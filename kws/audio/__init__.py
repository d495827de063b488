"""Audio in: files and raw PCM as mono samples, sample rates, levels."""
