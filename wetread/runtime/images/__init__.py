"""Turn the bytes of an image file into the uint8 array that the network sees."""
