"""The models that a comparison includes, and how each is fitted."""
