"""What simple models reach on the same rows: a trained model that doesn't beat them has learned nothing."""
