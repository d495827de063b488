"""What every part stands on: processes, files that appear whole or not at all, errors, array types."""
