"""An encoder of speech of our own: a streaming LSTM that hears phonemes, trained beside a larger model's embedding."""
