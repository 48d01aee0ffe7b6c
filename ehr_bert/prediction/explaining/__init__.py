"""What a prediction rests on: contributions of codes and visits, and attention."""
