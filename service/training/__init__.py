"""What training does. The only package that imports TensorFlow and Keras."""
