"""The spotter in torch: the layer contract, front end, classifiers, checkpoints."""
