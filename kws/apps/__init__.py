"""What people run with a model: files, the microphone, the browser."""
