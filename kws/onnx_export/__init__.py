"""Checkpoint to ONNX: traced, shrunk, quantised, compared with torch, its cost counted."""
