"""Archives of audio scanned for keywords: listed, cut into parts, spotted by processes or a cluster, written once."""
