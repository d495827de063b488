"""What the operating system gives: processes, files that appear whole or not at all."""
