"""Named weights of models of this project, of Hugging Face and of TensorFlow 1."""
