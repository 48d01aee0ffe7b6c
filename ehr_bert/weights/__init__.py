"""A model's named weights, in whatever form they come: ours, Hugging Face's, or TensorFlow 1's."""
