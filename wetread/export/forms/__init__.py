"""Keras networks in the forms in which people keep them: which one a file is, and how it is opened.

wetread export --keras keras_model.h5 ...
  kinds          what the file is, by its content; what is no Keras network, called what it is
  architecture   the network's own description, read without running anything
  foreign_code   Lambda and custom layers in it, named
  keras3         what Keras 3 reads
  keras2         what tf_keras reads, in a process of its own (reader), rebuilt of Keras 3's layers
  graph          a network whose layers are not known: TensorFlow's graph as one layer
  opening        all of it in order
"""
