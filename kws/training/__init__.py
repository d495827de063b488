"""What a training run needs beside its loop: augmentation, its state, its log, the table of a sweep."""
