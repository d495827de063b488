"""The portable C engine: a model file's weights as one block, C sources around it, and the engine behind Python."""
