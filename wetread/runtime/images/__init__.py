"""From the bytes of an image file to the uint8 array that the network sees."""
