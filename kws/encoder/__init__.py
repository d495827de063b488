"""An encoder of speech: a streaming LSTM that hears phonemes behind a pretrained model's first layers."""
